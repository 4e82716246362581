"""An embedded Mender Server and simulated devices, for evaluation and tests."""
