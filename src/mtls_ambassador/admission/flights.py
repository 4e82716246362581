"""Flights of one identity, or with one certificate, go one after the other; nobody can crowd another's queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.refusals import RefusalReason


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    members: Counter[str] = field(default_factory=Counter)


class Flights:
    """Serialises what happens to one identity and with one certificate, with bounded queues.

    Of one certificate too: else it could claim two identities at the same moment, while it has none.

    Args:
        per_identity: How many may fly or wait for one identity.
        per_certificate: How many of them may come with one certificate, so that a stranger's certificate never fills
            the queue of an identity it does not own.
        at_once: How many may fly or wait with one certificate, for whatever identities. A device has one or two; Envoy
            does not call a flight back when its device goes away.
        longest_wait: Seconds.
        retry_after: Seconds the refused are told.
    """

    def __init__(
        self,
        *,
        per_identity: int = 16,
        per_certificate: int = 2,
        at_once: int = 4,
        longest_wait: float = 15.0,
        retry_after: float = 5.0,
    ) -> None:
        self._per_identity = per_identity
        self._per_certificate = per_certificate
        self._at_once = at_once
        self._longest_wait = longest_wait
        self._retry_after = retry_after
        self._queues: dict[str, _Queue] = {}
        self._certificates: dict[str, _Queue] = {}
        self._in_the_air: Counter[str] = Counter()

    @contextlib.contextmanager
    def board(self, certificate: str) -> Iterator[None]:
        """Count a flight of `certificate`, of whatever identity, for the time of the block.

        Raises:
            Refused: `busy`; it has too many at the same time.
        """
        if self._in_the_air[certificate] >= self._at_once:
            raise Refused(RefusalReason.BUSY, "too many at the same time", retry_after=self._retry_after)
        self._in_the_air[certificate] += 1
        try:
            yield
        finally:
            self._in_the_air[certificate] -= 1
            if not self._in_the_air[certificate]:
                del self._in_the_air[certificate]

    @contextlib.asynccontextmanager
    async def fly(self, identity: str, certificate: str) -> AsyncIterator[None]:
        """Be the only flight of `identity` (normal form), and the only one with `certificate`, for the block's time.

        Raises:
            Refused: `busy`; the queue is full, or the wait was too long.
        """
        identities = self._queues.setdefault(identity, _Queue())
        if identities.members.total() >= self._per_identity or identities.members[certificate] >= self._per_certificate:
            raise Refused(RefusalReason.BUSY, retry_after=self._retry_after)
        certificates = self._certificates.setdefault(certificate, _Queue())
        identities.members[certificate] += 1
        certificates.members[certificate] += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(self._longest_wait):
                        # Everybody in this order: so nobody waits in a circle.
                        await stack.enter_async_context(certificates.lock)
                        await stack.enter_async_context(identities.lock)
                except TimeoutError:
                    raise Refused(RefusalReason.BUSY, "waited too long", retry_after=self._retry_after) from None
                yield
        finally:
            _leave(self._queues, identity, certificate)
            _leave(self._certificates, certificate, certificate)


def _leave(queues: dict[str, _Queue], name: str, certificate: str) -> None:
    queue = queues[name]
    queue.members[certificate] -= 1
    if not queue.members.total():
        del queues[name]
