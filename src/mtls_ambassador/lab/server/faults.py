"""Injected faults: latency and error answers for chosen requests. Pure.

Source: what Mender's rate limiter answers (429 with Retry-After, whole seconds); the rest is what networks do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from http import HTTPStatus

from mtls_ambassador.errors import Error

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_EXAMPLE = "Write it like 'status=503,path=/api/management,count=3' or 'latency=2s,path=/api/devices,method=POST'."


class FaultError(Error):
    """The text of a fault cannot be understood."""

    exit_status = 2


@dataclass(frozen=True)
class Fault:
    """One rule.

    Attributes:
        latency: Seconds to wait before going on.
        status: HTTP status to answer instead of the server; None lets the request through.
        retry_after: Value of the Retry-After header, seconds; None leaves it out.
        path: The rule applies to paths that start so.
        method: The rule applies to this method only; None: to all.
        count: The rule applies so many times; None: always.
    """

    latency: float = 0.0
    status: int | None = None
    retry_after: int | None = None
    path: str = "/"
    method: str | None = None
    count: int | None = None

    def matches(self, method: str, path: str) -> bool:
        """Whether the rule applies to a request."""
        return self.count != 0 and path.startswith(self.path) and self.method in {None, method}


@dataclass(frozen=True)
class Effect:
    """What happens to one request; fields as in `Fault`."""

    latency: float = 0.0
    status: int | None = None
    retry_after: int | None = None

    @property
    def text(self) -> str:
        """The error text that goes with `status`."""
        if self.status is None:
            return ""
        try:
            return HTTPStatus(self.status).phrase.lower()
        except ValueError:
            return "injected fault"


@dataclass(frozen=True)
class Faults:
    """Rules in order, each with what is left of its count."""

    rules: tuple[Fault, ...] = ()

    def apply(self, method: str, path: str) -> tuple[Faults, Effect]:
        """The rules as they are after this request, and what happens to it.

        Latencies add up; of several rules with a status the first one answers, and only it is used up.
        """
        effect, rest = Effect(), []
        for rule in self.rules:
            used = rule.matches(method, path) and not (rule.status and effect.status)
            if used:
                effect = Effect(
                    effect.latency + rule.latency,
                    effect.status or rule.status,
                    rule.retry_after if rule.status else effect.retry_after,
                )
            rest.append(replace(rule, count=rule.count - 1) if used and rule.count is not None else rule)
        return Faults(tuple(rest)), effect


def parse_fault(text: str) -> Fault:
    """The fault that an option such as `status=429,retry_after=5,path=/api/devices,method=POST,count=3` names.

    Raises:
        FaultError: a field is unknown, given twice or not of its form, or there is neither latency nor status.
    """
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name not in Fault.__dataclass_fields__:
            raise FaultError(f"the fault {text!r} has a field that is not known: {part.strip()!r}", _EXAMPLE)
        if name in fields:
            raise FaultError(f"the fault {text!r} has {name} twice", _EXAMPLE)
        fields[name] = value
    if not fields.keys() & {"latency", "status"}:
        raise FaultError(f"the fault {text!r} does nothing: it has neither latency nor status", _EXAMPLE)
    if "retry_after" in fields and "status" not in fields:
        raise FaultError(f"the fault {text!r} has retry_after but no status", _EXAMPLE)
    path = fields.get("path", "/")
    if not path.startswith("/"):
        raise FaultError(f"the fault {text!r} has a path that does not start with /", _EXAMPLE)
    return Fault(
        latency=_duration(text, fields["latency"]) if "latency" in fields else 0.0,
        status=_integer(text, fields, "status", 400, 599),
        retry_after=_integer(text, fields, "retry_after", 0, 10**6),
        path=path,
        method=fields["method"].upper() if "method" in fields else None,
        count=_integer(text, fields, "count", 1, 10**9),
    )


def _integer(text: str, fields: dict[str, str], name: str, low: int, high: int) -> int | None:
    if name not in fields:
        return None
    value = fields[name]
    if not re.fullmatch(r"[0-9]{1,10}", value) or not low <= int(value) <= high:
        raise FaultError(f"the fault {text!r} has {name}={value!r}; it is {low} to {high}", _EXAMPLE)
    return int(value)


def _duration(text: str, value: str) -> float:
    found = _DURATION.fullmatch(value)
    if not found:
        raise FaultError(f"the fault {text!r} has latency={value!r}; write 2s, 250ms or 1m", _EXAMPLE)
    return float(found[1]) * _UNITS[found[2]]
