"""The forms in which people write addresses, durations, URLs and paths, read into frozen values. Pure."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlsplit

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)?")
_RATE = re.compile(r"(?P<number>[1-9]\d{0,5})\s*/\s*(?P<unit>[smh])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)
_STORAGE_PATH = re.compile(r"/(?!api/)[A-Za-z0-9._~-]+/([A-Za-z0-9._~-]+/)*", re.IGNORECASE)
_ALLOWED_PATH = re.compile(r"/api/devices/[A-Za-z0-9._~/-]*")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen."""

    host: str | None
    """An IPv4 or IPv6 address without brackets; None: every address of the machine, IPv4 and IPv6."""
    port: int
    """1 to 65535, or 0 for any free port."""

    def __str__(self) -> str:
        if self.host is None:
            return f":{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def collides(self, other: ListenAddress) -> bool:
        """Whether no two can listen at both: one port, and one host or a host that stands for the other too."""
        if self.port != other.port or self.port == 0:
            return False
        if self.host is None or other.host is None:
            return True
        hosts = ipaddress.ip_address(self.host), ipaddress.ip_address(other.host)
        if ipaddress.IPv6Address(0) in hosts:  # it takes IPv4 as well
            return True
        return hosts[0] == hosts[1] or (ipaddress.IPv4Address(0) in hosts and hosts[0].version == hosts[1].version)


@dataclass(frozen=True, slots=True)
class AuditTarget:
    """Where audit lines go."""

    path: Path | None
    """A file; None: standard output."""

    def __str__(self) -> str:
        return str(self.path) if self.path else "stdout"


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """The upstream Mender Server."""

    tls: bool
    host: str
    """Host name or address, without brackets, lower case."""
    port: int

    @property
    def authority(self) -> str:
        """What Mender's own entry proxy expects in `Host`: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address (which TLS neither sends as SNI nor matches as a DNS name)."""
        return _is_address(self.host)

    @property
    def in_clear(self) -> bool:
        """Whether what is sent there travels unencrypted over a network."""
        if self.tls or self.host == "localhost":
            return False
        return not (self.is_address and ipaddress.ip_address(self.host).is_loopback)

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


Period = Literal["s", "m", "h"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and as many again in each period."""

    count: int
    period: Period

    @property
    def per_second(self) -> float:
        """In the long run."""
        return self.count / _SECONDS[self.period]

    def __str__(self) -> str:
        return f"{self.count}/{self.period}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_listen(value: object) -> ListenAddress:
    """Read `8080`, `:8080`, `0.0.0.0:8080` or `[::]:8080`.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, ListenAddress):
        return value
    text = str(value).strip()
    host, colon, port_text = text.rpartition(":")
    if not colon:
        host, port_text = "", text
    if not re.fullmatch(r"\d{1,5}", port_text) or int(port_text) > 65535 or isinstance(value, bool):
        raise ValueError("is not an address to listen on; write 8080, :8080, 0.0.0.0:8080 or [::]:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("holds an IPv6 address without brackets; write it as [::1]:8080")
    if host and not _is_address(host):
        raise ValueError("holds no IP address before the port; write 8080, 0.0.0.0:8080 or [::]:8080")
    return ListenAddress(host or None, int(port_text))


def parse_audit_log(value: object) -> AuditTarget | None:
    """Read the path of a file, `stdout`, or `off`.

    Raises:
        ValueError: it is none of these.
    """
    if value is None or isinstance(value, AuditTarget):
        return value
    text = "off" if value is False else str(value).strip()
    if value is True or not text:
        raise ValueError("is neither a file nor stdout nor off; write /var/log/mtls-ambassador/audit.jsonl")
    if text == "off":
        return None
    return AuditTarget(None if text in ("stdout", "-") else Path(text))


def parse_duration(value: object) -> float:
    """Read `30`, `30s`, `5m`, `1h`, `500ms` or a number of seconds; returns seconds.

    Raises:
        ValueError: it is none of these, or negative.
    """
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError("is not a duration; write seconds, or 500ms, 30s, 5m, 1h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def parse_rate(value: object) -> Rate | None:
    """Read `30/s`, `60/m`, `500/h` or `off`, which is None.

    Raises:
        ValueError: it is none of these.
    """
    if value is None or isinstance(value, Rate):
        return value
    text = str(value).strip()
    if value is False or text == "off":  # YAML reads a bare `off` as false
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("is not a rate; write 30/s, 60/m, 500/h or off")
    (period,) = [unit for unit in get_args(Period) if unit == match["unit"]]
    return Rate(int(match["number"]), period)


def parse_deadline(value: object) -> dt.datetime | None:
    """Read a date, whose end in UTC is meant, or a date and time, in UTC unless it says otherwise (ISO 8601).

    Returns:
        The first moment after it, with a time zone.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            value = dt.date.fromisoformat(text) if len(text) == 10 else dt.datetime.fromisoformat(text)
        except ValueError:
            value = None
    if isinstance(value, dt.datetime):
        return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    if isinstance(value, dt.date) and value < dt.date.max:
        return dt.datetime.combine(value + dt.timedelta(days=1), dt.time(), dt.UTC)
    raise ValueError("is neither a date nor a date and time; write 2026-12-31 or 2026-12-31T18:00:00Z")


def parse_backend(value: object) -> BackendUrl:
    """Read the URL of a Mender Server: scheme, host and maybe a port, nothing else.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, BackendUrl):
        return value
    text = str(value).strip()
    if "://" not in text:
        raise ValueError("is not a URL; write https://hosted.mender.io")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("is not a URL; write https://hosted.mender.io") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("is neither an http:// nor an https:// URL; write https://hosted.mender.io")
    if "@" in parts.netloc:
        raise ValueError("holds a user name; set mender_user and mender_pass, and write only https://HOST")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("holds a path or query; Mender is at the root of its host: write only https://HOST")
    host = (parts.hostname or "").lower()
    if not _is_address(host) and not _HOST_NAME.fullmatch(host):
        raise ValueError("names no host; write https://hosted.mender.io")
    tls = parts.scheme == "https"
    return BackendUrl(tls, host, port if port is not None else (443 if tls else 80))


def parse_storage_paths(value: object) -> tuple[str, ...]:
    """Read path prefixes of an artifact storage outside `/api/`: a list, or text separated by commas; may be empty.

    Raises:
        ValueError: one is not a plain path, does not end with a slash, or lies under `/api/`.
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("is not a list of paths; write [/mender-artifact-storage/]")
    paths = tuple(str(item).strip() for item in items if str(item).strip())
    for path in paths:
        if not _STORAGE_PATH.fullmatch(path) or "/." in path:
            raise ValueError(
                f"holds {path!r}, which is not a plain path outside /api/ with a slash at its end; "
                "write [/mender-artifact-storage/]"
            )
    return paths


def parse_allowed_paths(value: object) -> tuple[str, ...]:
    """Read path prefixes under `/api/devices/`: a list, or text separated by commas.

    Raises:
        ValueError: there is none, or one lies elsewhere or has a form that proxies and servers may read differently.
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError("is not a list of paths; write [/api/devices/]")
    paths = tuple(str(item).strip() for item in items if str(item).strip())
    if not paths:
        raise ValueError("is empty, so no device could do anything; leave it out for /api/devices/")
    for path in paths:
        if not _ALLOWED_PATH.fullmatch(path) or "//" in path or "/." in path:
            raise ValueError(f"holds {path!r}, which is not a plain path under /api/devices/")
    return paths


def check_ledger_url(text: str) -> None:
    """See that it is the URL of a PostgreSQL database (libpq's form). Errors do not repeat it: it holds a password.

    Raises:
        ValueError: it is none.
    """
    right = "write postgresql://USER:PASSWORD@HOST/DATABASE, with %40, %2F and so on for @, / and so on in the password"
    if not text.startswith("postgresql://"):
        raise ValueError(f"does not begin with postgresql://; {right}")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(f"is not a URL; {right}") from None
    if parts.fragment or not text.isprintable() or " " in text or text.count("@") > 1:
        raise ValueError(f"holds a character that has a meaning in URLs; {right}")
    if not parts.path.strip("/") or "/" in parts.path.strip("/"):
        raise ValueError(f"names no database; {right}")
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if "password" in names:
        raise ValueError(f"holds a password after the question mark; {right}")
    if not parts.hostname and "host" not in names:
        raise ValueError(f"names no host; {right}, or postgresql:///DATABASE?host=/run/postgresql for a socket")
