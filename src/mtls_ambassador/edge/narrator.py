"""Tells in our log what Envoy reports in its."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Literal

import structlog

from mtls_ambassador.edge.log_lines import HandshakeLine, RequestLine, parse
from mtls_ambassador.observe.throttle import ThrottleEach
from mtls_ambassador.refusals import RefusalReason

_log = structlog.get_logger()

_LONGEST_PATH = 256
_ALARMING = (
    RefusalReason.SERVER_CERTIFICATE,
    RefusalReason.CA_CERTIFICATE,
    RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE,
)
"""What an operator should see even if `access_log` is off."""


class Narrator:
    """Puts Envoy's lines into words, one of ours for each, throttled where strangers cause them.

    Args:
        access_log: The setting of this name.
        clock: Monotonic seconds.
    """

    def __init__(
        self, access_log: Literal["all", "errors", "off"], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._all = access_log == "all"
        self._clock = clock
        self._handshakes = ThrottleEach(burst=50, per_second=2)
        self._requests = ThrottleEach(burst=50, per_second=2)

    async def follow_output(self, lines: AsyncIterator[bytes]) -> None:
        """Tell Envoy's access log lines until it ends."""
        async for line in lines:
            self.tell(line)
        self.summarise()

    def summarise(self) -> None:
        """Say how many lines were left out and not yet told."""
        self._tell_held_back(self._handshakes.take())
        left_out = self._requests.take()
        if left_out:
            _log.warning(f"{left_out} more requests were left out of this log", left_out=left_out)

    async def follow_errors(self, lines: AsyncIterator[bytes], keep: list[str]) -> None:
        """Tell Envoy's own log lines until it ends; the last fifty of them stay in `keep`."""
        async for line in lines:
            text = line.decode(errors="replace")
            keep.append(text)
            del keep[:-50]
            level, _, rest = text.partition("\t")
            component, _, message = rest.partition("\t")
            if "caught ENVOY_SIGTERM" in message:
                continue  # we have just sent it, and say ourselves what we do
            if not message:
                # The further lines of a message, such as the configuration that Envoy prints when it cannot read it.
                _log.debug(f"envoy: {text}")
                continue
            if level in ("error", "critical"):
                _log.error(f"envoy: {message}", component=component)
            else:
                _log.warning(f"envoy: {message}", component=component)

    def tell(self, line: bytes) -> None:
        """Tell one access log line."""
        event = parse(line)
        if isinstance(event, HandshakeLine):
            # By address and reason: a scanner hides no device's trouble.
            host = event.peer.address.rpartition(":")[0]
            held_back = self._handshakes.admit((host, event.reason), self._clock())
            if held_back is None:
                return
            self._tell_held_back(held_back)
            _log.warning(
                event.text,
                reason=event.reason.label,
                serial=event.peer.serial,
                subject=event.peer.subject,
                # BoringSSL's own words are long; where we have a reason they add nothing to it.
                detail=event.detail if event.reason is RefusalReason.HANDSHAKE_FAILED else None,
            )
        elif isinstance(event, RequestLine):
            self._tell_request(event)

    def _tell_request(self, event: RequestLine) -> None:
        if event.by_admission and not self._all:
            return  # the admission service has told it, with the reason
        held_back = None if self._all else self._requests.admit(event.peer.serial, self._clock())
        if held_back is None and not self._all:
            return
        fields = {
            "serial": event.peer.serial,
            "subject": event.peer.subject,
            "request_id": event.request_id,
            "left_out": held_back or None,
        }
        reason = event.refusal
        if reason in _ALARMING:
            _log.warning(
                f"refused {event.peer.address}: {reason.value.log}",
                reason=reason.label,
                path=event.path[:_LONGEST_PATH],
                **fields,
            )
            return
        _log.info(
            f"{event.method} {event.path[:_LONGEST_PATH]} {event.status} from {event.peer.address}",
            reason=reason.label if reason else None,
            details=None if event.details == "via_upstream" else event.details,
            upstream_failure=event.upstream_failure,
            received=event.received,
            sent=event.sent,
            ms=event.milliseconds,
            **fields,
        )

    def _tell_held_back(self, count: int) -> None:
        if count:
            _log.warning(f"{count} more TLS handshake errors were left out of this log", left_out=count)
