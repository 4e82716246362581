"""What goes wrong in a batch."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class BatchError(Error):
    """A batch cannot be begun, or not be gone on with."""


class RowError(Error):
    """One row of a batch cannot be used; the others go on."""
