"""What can go wrong with the data plane."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class EdgeError(Error):
    """Envoy does not start, or keeps dying."""


class BinaryError(EdgeError):
    """There is no Envoy that may be started; trying again without a change is of no use."""

    exit_status = 2
