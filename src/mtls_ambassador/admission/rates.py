"""How many auth requests one certificate, and one address, may send."""

from __future__ import annotations

import time
from collections.abc import Callable

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.config.values import Rate
from mtls_ambassador.observe.throttle import ThrottleEach, network
from mtls_ambassador.refusals import RefusalReason

_PEERS = 100_000


class AuthRates:
    """The limits of auth requests; what is beyond them costs neither cryptography nor a call of Mender.

    Args:
        per_certificate: None: no limit.
        per_address: None: no limit.
        clock: Monotonic seconds.
    """

    def __init__(
        self, per_certificate: Rate | None, per_address: Rate | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._certificates = _throttle(per_certificate)
        self._addresses = _throttle(per_address)
        self._clock = clock

    def require_address(self, address: str) -> None:
        """Let one more auth request of this address and port pass.

        Raises:
            Refused: `rate_limited`, with the time until the next one passes.
        """
        if self._addresses is not None:
            self._require(self._addresses, network(address), "auth_rate_per_address")

    def require_certificate(self, fingerprint: str) -> None:
        """Let one more auth request of this certificate pass.

        Raises:
            Refused: as above.
        """
        if self._certificates is not None:
            self._require(self._certificates, fingerprint, "auth_rate_per_certificate")

    def _require(self, throttle: ThrottleEach, peer: str, limit: str) -> None:
        if throttle.admit(peer, self._clock()) is None:
            raise Refused(RefusalReason.RATE_LIMITED, f"more than {limit}", rule=limit, retry_after=throttle.wait(peer))


def _throttle(rate: Rate | None) -> ThrottleEach | None:
    return ThrottleEach(rate.count, rate.per_second, peers=_PEERS) if rate else None
