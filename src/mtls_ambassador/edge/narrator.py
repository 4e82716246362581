"""Tells in our log what Envoy reports in its."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Literal

import structlog

from mtls_ambassador.edge.log_lines import AlarmLine, HandshakeLine, RequestLine, alarm, parse
from mtls_ambassador.observe.throttle import ThrottleEach, network
from mtls_ambassador.refusals import RefusalReason

_log = structlog.get_logger()

_LONGEST_PATH = 256
# Of one certificate and reason: enough to see what somebody tries, and little enough for him to try for weeks.
_ALARMS, _ALARMS_PER_SECOND = 10, 1 / 60

OnAlarm = Callable[[AlarmLine, int], None]
"""Takes an alarm, and how many of the same certificate and reason were left out before it."""


def forget_alarm(line: AlarmLine, left_out: int) -> None:
    """For an edge that has nobody who remembers."""


class Narrator:
    """Puts Envoy's lines into words, one of ours for each, throttled where strangers cause them.

    Args:
        access_log: The setting of this name.
        on_alarm: Remembers alarms, of which it gets ten of one certificate and reason at once, then one a minute.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        access_log: Literal["all", "errors", "off"],
        on_alarm: OnAlarm = forget_alarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._all = access_log == "all"
        self._on_alarm = on_alarm
        self._clock = clock
        self._alarms = ThrottleEach(_ALARMS, _ALARMS_PER_SECOND)
        # By address and reason, so that a scanner hides no device's trouble; then by reason alone, for a scanner may
        # have more addresses than anybody can count.
        self._handshakes = ThrottleEach(burst=50, per_second=2)
        self._reasons = ThrottleEach(burst=500, per_second=5)
        self._requests = ThrottleEach(burst=50, per_second=2)

    async def follow_output(self, lines: AsyncIterator[bytes]) -> None:
        """Tell Envoy's access log lines until it ends."""
        async for line in lines:
            self.tell(line)
        self.summarise()

    def summarise(self) -> None:
        """Say how many lines were left out and not yet told."""
        self._tell_held_back(self._handshakes.take() + self._reasons.take())
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
            held_back = self._admit(event)
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
        elif isinstance(event, AlarmLine):
            self._tell_alarm(event)
        elif isinstance(event, RequestLine):
            self._tell_request(event)

    def _admit(self, event: HandshakeLine) -> int | None:
        now = self._clock()
        untold = self._handshakes.admit((network(event.peer.address), event.reason), now)
        return None if untold is None else self._reasons.admit(event.reason, now, untold)

    def _tell_alarm(self, event: AlarmLine) -> None:
        left_out = self._alarms.admit((event.sha256, event.reason), self._clock())
        if left_out is not None:
            try:
                self._on_alarm(event, left_out)
            except Exception as error:  # Envoy stands still if its lines are not read
                _log.error("an alarm could not be remembered", request_id=event.request_id, exc_info=error)
        held_back = None if self._all else self._requests.admit(event.peer.serial, self._clock())
        if held_back is None and not self._all:
            return
        _log.warning(
            f"refused {event.peer.address}: {event.reason.value.log}",
            reason=event.reason.label,
            path=event.path[:_LONGEST_PATH],
            token_of=event.token_of,
            serial=event.peer.serial,
            subject=event.peer.subject,
            request_id=event.request_id,
            left_out=held_back or None,
        )

    def _tell_request(self, event: RequestLine) -> None:
        if event.by_admission and not self._all:
            return  # the admission service has told it, with the reason
        if alarm(event.details):
            return  # it has a line of its own
        held_back = None if self._all else self._requests.admit(event.peer.serial, self._clock())
        if held_back is None and not self._all:
            return
        reason = event.refusal
        _log.info(
            f"{event.method} {event.path[:_LONGEST_PATH]} {event.status} from {event.peer.address}",
            reason=reason.label if reason else None,
            details=None if event.details == "via_upstream" else event.details,
            upstream_failure=event.upstream_failure,
            received=event.received,
            sent=event.sent,
            ms=event.milliseconds,
            serial=event.peer.serial,
            subject=event.peer.subject,
            request_id=event.request_id,
            left_out=held_back or None,
        )

    def _tell_held_back(self, count: int) -> None:
        if count:
            _log.warning(f"{count} more TLS handshake errors were left out of this log", left_out=count)
