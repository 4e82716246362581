"""A small PKI: keys, certificate profiles and the authority that issues for edge proxies and devices."""
