"""`config.values`: what people write for addresses, durations, URLs and paths."""

from __future__ import annotations

import datetime as dt
import math
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.values import (
    BackendUrl,
    ListenAddress,
    Rate,
    check_ledger_url,
    parse_allowed_paths,
    parse_backend,
    parse_deadline,
    parse_duration,
    parse_listen,
    parse_rate,
    parse_storage_paths,
)

HOSTS = st.none() | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (8080, ListenAddress(None, 8080)),
        ("8080", ListenAddress(None, 8080)),
        (":8080", ListenAddress(None, 8080)),
        (" :8080 ", ListenAddress(None, 8080)),
        ("0.0.0.0:8080", ListenAddress("0.0.0.0", 8080)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        ("[::]:8080", ListenAddress("::", 8080)),
        ("[::1]:65535", ListenAddress("::1", 65535)),
        (ListenAddress("::1", 1), ListenAddress("::1", 1)),
    ],
)
def test_a_listen_address_is_read(written: object, read: ListenAddress) -> None:
    assert parse_listen(written) == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "x",
        "65536",
        "-1",
        "80.5",
        80.5,
        True,
        None,
        "localhost:8080",
        "my-server.com:443",
        "127.0.0.1",
        "1.2.3:80",
        "::1",
        "::1:8080",
        "[::1]",
        "[::1:8080",
        "http://0.0.0.0:80",
        "999999",
        "0.0.0.0:",
        "0x50",
    ],
)
def test_what_is_no_listen_address_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="8080"):
        parse_listen(written)


@given(HOSTS, st.integers(0, 65535))
def test_a_listen_address_reads_back_as_it_was_written(host: str | None, port: int) -> None:
    address = ListenAddress(host, port)
    assert parse_listen(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_listen(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (30, 30.0),
        (0.25, 0.25),
        ("30", 30.0),
        ("30s", 30.0),
        (" 30 s ", 30.0),
        ("1.5m", 90.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2d", 172800.0),
        ("500ms", 0.5),
        ("0", 0.0),
    ],
)
def test_a_duration_is_read_as_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", "s", "-1", "-1s", "1 minute", "5M", "1h30m", "inf", "nan", True, None, "1e3"])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write seconds, or 500ms, 30s, 5m, 1h"):
        parse_duration(written)


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_every_unit_is_a_number_of_seconds(number: int, unit: tuple[str, float]) -> None:
    name, seconds = unit
    assert math.isclose(parse_duration(f"{number}{name}"), number * seconds)
    assert parse_duration(f"{number} {name}") == parse_duration(f"{number}{name}")


@given(st.floats(0.001, 10**6, allow_nan=False))
def test_a_duration_reads_back_as_it_was_written(seconds: float) -> None:
    assert parse_duration(parse_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("written", "read", "text"),
    [
        ("https://hosted.mender.io", BackendUrl(True, "hosted.mender.io", 443), "https://hosted.mender.io"),
        ("https://hosted.mender.io/", BackendUrl(True, "hosted.mender.io", 443), "https://hosted.mender.io"),
        ("HTTPS://Hosted.Mender.IO", BackendUrl(True, "hosted.mender.io", 443), "https://hosted.mender.io"),
        ("https://mender:8443", BackendUrl(True, "mender", 8443), "https://mender:8443"),
        ("http://mender", BackendUrl(False, "mender", 80), "http://mender"),
        ("http://mender:443", BackendUrl(False, "mender", 443), "http://mender:443"),
        ("https://10.0.0.1", BackendUrl(True, "10.0.0.1", 443), "https://10.0.0.1"),
        ("https://[fd00::1]:8443", BackendUrl(True, "fd00::1", 8443), "https://[fd00::1]:8443"),
        ("http://mender-api_gateway.default.svc.", None, "http://mender-api_gateway.default.svc."),
    ],
)
def test_a_backend_is_read(written: str, read: BackendUrl | None, text: str) -> None:
    backend = parse_backend(written)
    assert read is None or backend == read
    assert str(backend) == text
    assert parse_backend(backend) == parse_backend(str(backend)) == backend


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("", "is not a URL"),
        (None, "is not a URL"),
        ("hosted.mender.io", "is not a URL"),
        ("https://mender:port", "is not a URL"),
        ("https://mender:99999", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("ftp://mender", "neither an http:// nor an https:// URL"),
        ("https://a:b@mender", "holds a user name"),
        ("https://mender/api", "holds a path or query"),
        ("https://mender?x=1", "holds a path or query"),
        ("https://mender#x", "holds a path or query"),
        ("https://", "names no host"),
        ("https://-mender", "names no host"),
        ("https://men der", "names no host"),
        ("https://mender..io", "names no host"),
        (f"https://{'a' * 64}.io", "names no host"),
    ],
)
def test_what_is_no_backend_is_refused(written: object, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_backend(written)


@given(
    st.booleans(),
    st.ip_addresses() | st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5})?", fullmatch=True),
    st.integers(1, 65535),
)
def test_a_backend_reads_back_as_it_was_written(tls: bool, host: IPv4Address | IPv6Address | str, port: int) -> None:
    backend = BackendUrl(tls, str(host), port)
    assert parse_backend(str(backend)) == backend
    assert backend.is_address is not isinstance(host, str)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/api/devices/", ("/api/devices/",)),
        ("/api/devices/v1/inventory, /api/devices/v2/", ("/api/devices/v1/inventory", "/api/devices/v2/")),
        (["/api/devices/v1/"], ("/api/devices/v1/",)),
        (("/api/devices/a~b_c-d.e/",), ("/api/devices/a~b_c-d.e/",)),
        ("/api/devices/,", ("/api/devices/",)),
    ],
)
def test_allowed_paths_are_read(written: object, read: tuple[str, ...]) -> None:
    assert parse_allowed_paths(written) == read


@pytest.mark.parametrize("written", ["", " , ", [], 5, None, {"a": 1}])
def test_allowed_paths_must_hold_one(written: object) -> None:
    with pytest.raises(ValueError):
        parse_allowed_paths(written)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/management/",
        "api/devices/",
        "/api/devices",
        "/API/devices/",
        "/api/devices/../management/",
        "/api/devices/./x",
        "/api/devices//x",
        "/api/devices/%2e%2e/",
        "/api/devices/;x",
        "/api/devices/a b",
        "/api/devices/x?y",
        "/api/devices/\\x",
        "/api/devices/\nx",
        "/api/devices/ü",
    ],
)
def test_only_plain_paths_under_the_device_api_are_allowed(path: str) -> None:
    with pytest.raises(ValueError, match="not a plain path under /api/devices/"):
        parse_allowed_paths(["/api/devices/v1/", path])


@pytest.mark.parametrize("value", ["/artifacts/", ["/a/b/", "/c/"], "", []])
def test_storage_paths(value: object) -> None:
    assert all(path.endswith("/") for path in parse_storage_paths(value))


@pytest.mark.parametrize(
    "value",
    [
        "/",
        "//",
        "/artifacts",
        "artifacts/",
        "/api/",
        "/API/management/",
        "/api/devices/",
        "/a/../b/",
        "/a/./",
        "/%61/",
        "/a;b/",
        7,
    ],
)
def test_storage_paths_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a list of paths|which is not a plain path"):
        parse_storage_paths(value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://edge:secret@db.example.com/ledger",
        "postgresql://edge:se%40cret@db.example.com:5433/ledger?sslmode=verify-full",
        "postgresql://edge@[2001:db8::1]/ledger",
        "postgresql:///ledger?host=/run/postgresql",
    ],
)
def test_the_url_of_a_ledger(url: str) -> None:
    check_ledger_url(url)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "does not begin with"),
        ("postgres://edge:secret@db/ledger", "does not begin with"),
        ("mysql://edge:secret@db/ledger", "does not begin with"),
        ("sqlite:///secret", "does not begin with"),
        ("postgresql://edge:secret@db", "names no database"),
        ("postgresql://edge:secret@db/", "names no database"),
        ("postgresql://edge:sec/ret@db/ledger", "is not a URL|names no database"),
        ("postgresql://edge:secret@x@db/ledger", "has a meaning"),
        ("postgresql://edge:secret#@db/ledger", "names no database|has a meaning|is not a URL"),
        ("postgresql://edge:secret@db:port/ledger", "is not a URL"),
        ("postgresql://edge:secret@db/led ger", "has a meaning"),
        ("postgresql:///ledger", "names no host"),
        ("postgresql://edge@db/ledger?password=secret", "after the question mark"),
    ],
)
def test_what_is_no_url_of_a_ledger_is_said_without_it(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        check_ledger_url(url)
    assert "secret" not in str(caught.value)
    assert "; write postgresql://" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "read", "per_second"),
    [
        ("60/m", Rate(60, "m"), 1.0),
        (" 30 / s ", Rate(30, "s"), 30.0),
        ("500/h", Rate(500, "h"), 500 / 3600),
        (Rate(1, "s"), Rate(1, "s"), 1.0),
    ],
)
def test_a_rate_is_read(written: object, read: Rate, per_second: float) -> None:
    assert parse_rate(written) == read
    assert read.per_second == per_second
    assert parse_rate(str(read)) == read


@pytest.mark.parametrize("written", ["off", " off ", False, None])
def test_a_rate_may_be_off(written: object) -> None:
    assert parse_rate(written) is None


@pytest.mark.parametrize("written", ["", "60", 60, True, "60/d", "0/m", "-1/m", "1.5/s", "1/ms", "1000000/s", "60/m/s"])
def test_what_is_no_rate_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a rate; write 30/s, 60/m"):
        parse_rate(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-12-31", dt.datetime(2027, 1, 1, tzinfo=dt.UTC)),
        (dt.date(2028, 2, 28), dt.datetime(2028, 2, 29, tzinfo=dt.UTC)),
        ("2026-12-31T18:00:00Z", dt.datetime(2026, 12, 31, 18, tzinfo=dt.UTC)),
        ("2026-12-31T18:00:00", dt.datetime(2026, 12, 31, 18, tzinfo=dt.UTC)),
        ("2026-12-31 18:00+02:00", dt.datetime(2026, 12, 31, 16, tzinfo=dt.UTC)),
        (dt.datetime(2026, 12, 31, 18), dt.datetime(2026, 12, 31, 18, tzinfo=dt.UTC)),  # noqa: DTZ001 - as YAML has it
    ],
)
def test_a_deadline_is_read(written: object, read: dt.datetime) -> None:
    assert parse_deadline(written) == read
    assert parse_deadline(read) == read


def test_there_may_be_no_deadline() -> None:
    assert parse_deadline(None) is None


@pytest.mark.parametrize("written", ["", "tomorrow", "31.12.2026", "2026-13-01", 20261231, True, "9999-12-31"])
def test_what_is_no_deadline_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is neither a date nor a date and time; write 2026-12-31"):
        parse_deadline(written)
