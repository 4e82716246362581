"""Device tokens that are bound to a certificate: minted here, verified by Envoy."""
