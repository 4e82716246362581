"""The ledger's failures, as admission meets them."""

from __future__ import annotations

from mtls_ambassador.errors import Error


class LedgerUnavailable(Error):
    """The ledger cannot be asked now: it is slow, full, broken or out of reach. What it would have said is unknown."""
