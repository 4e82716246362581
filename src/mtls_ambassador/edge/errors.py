"""What can go wrong with the data plane."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class EdgeError(Error):
    """Envoy cannot be found, does not start, or keeps dying."""
