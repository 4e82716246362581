"""What happened to an auth request, on its way to those who remember it: the ledger and the audit log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtls_ambassador.ledger.records import Claim, Event, EventKind
from mtls_ambassador.observe.throttle import network

Keep = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An auth request that could be read, and whose it is."""

    request_id: str
    address: str
    """The client's address and port."""
    claim: Claim

    @property
    def host(self) -> str:
        """Whom the client's address stands for: not its port, which every connection has anew; see `network`."""
        return network(self.address)


class Journal:
    """Tells everybody who remembers. Nothing here waits or fails.

    Args:
        keepers: Each gets every event.
        now: The time, with its time zone.

    Attributes:
        now: The same.
    """

    def __init__(self, keepers: Sequence[Keep], now: Callable[[], dt.datetime]) -> None:
        self._keepers = keepers
        self.now = now

    def enter(
        self,
        kind: EventKind,
        attempt: Attempt,
        *,
        rule: str | None = None,
        detail: str = "",
        mender_id: str | None = None,
        mender_status: int | None = None,
    ) -> None:
        """Note one thing that became of `attempt`."""
        self.note(
            Event(
                self.now(),
                kind,
                attempt.request_id,
                attempt.address,
                attempt.claim.identity,
                attempt.claim.certificate,
                attempt.claim.auth_key,
                detail=detail,
                mender_id=mender_id,
                mender_status=mender_status,
                rule=rule,
            )
        )

    def note(self, event: Event) -> None:
        """Pass one event on."""
        for keep in self._keepers:
            keep(event)
