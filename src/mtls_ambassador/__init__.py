"""An open-source mutual-TLS edge proxy for the Mender OTA system."""

__version__ = "0.1.0"
