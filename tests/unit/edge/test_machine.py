"""`edge.machine`: limits follow from the machine, and a port is ours before Envoy is told."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.values import ListenAddress
from mtls_ambassador.edge import machine
from mtls_ambassador.edge.machine import ReservedPort, capacity, processors, raise_file_limit
from mtls_ambassador.errors import Error
from mtls_ambassador.serving import has_ipv6

ALL_FULL = 256 * 2**20 + 7380 * 288 * 1024
"""What 7380 devices take that all download slowly."""


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    has_memory(monkeypatch, 2**40)
    return tmp_path


def has_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": size // 4096}
    monkeypatch.setattr(os, "sysconf", known.__getitem__)


@pytest.mark.parametrize(
    ("files", "workers", "connections", "auth_requests"),
    [
        (20_000, 2, 7380, 2460),
        (1024, 2, 264, 88),
        (400, 2, 30, 10),
        (100_000, 4, 45_734, 4096),
        (1_000_000, 2, 50_000, 4096),
        (10**9, 64, 50_000, 4096),
    ],
)
def test_descriptors_limit_connections(
    cgroup: Path, files: int, workers: int, connections: int, auth_requests: int
) -> None:
    found = capacity(files, workers)
    assert (found.connections, found.auth_requests) == (connections, auth_requests)


@given(files=st.integers(400, 2_000_000), workers=st.integers(1, 4))
def test_everything_at_once_stays_below_the_limit_of_open_files(files: int, workers: int) -> None:
    """Every device connection with an upstream one, every auth request on its way in and out, and Envoy's own.

    Its own are 23 and 6 for each worker, as counted, and three that each worker may have beyond a limit.
    """
    found = capacity(files, workers)
    assert 2 * found.connections + 2 * found.auth_requests + 23 + 9 * workers <= files
    assert 0 < found.auth_requests <= found.connections


@pytest.mark.parametrize(("files", "workers"), [(0, 1), (300, 1), (360, 2), (1024, 70)])
def test_too_few_descriptors_are_an_error(files: int, workers: int) -> None:
    with pytest.raises(Error, match=f"the limit of open files, {files}, is too low"):
        capacity(files, workers)


def test_memory_follows_from_connections(cgroup: Path) -> None:
    assert capacity(20_000, 2).heap_bytes == ALL_FULL


@pytest.mark.parametrize(
    ("limit", "heap"),
    [("100000000\n", 70_000_000), ("max\n", ALL_FULL), (str(2**40), ALL_FULL)],
)
def test_a_containers_memory_limits_the_heap(cgroup: Path, limit: str, heap: int) -> None:
    (cgroup / "memory.max").write_text(limit)
    assert capacity(20_000, 2).heap_bytes == heap


def test_the_machines_memory_limits_the_heap(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_memory(monkeypatch, 10**9 // 4096 * 4096)
    assert capacity(20_000, 2).heap_bytes == 10**9 // 4096 * 4096 * 7 // 10


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        ("?", 8),
    ],
)
def test_a_containers_quota_limits_processors(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, quota: str, count: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    (cgroup / "cpu.max").write_text(quota)
    assert processors() == count


def test_without_a_cgroup_the_affinity_counts(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 3})
    assert processors() == 2


@pytest.mark.parametrize(("hard", "known"), [(4096, 4096), (resource.RLIM_INFINITY, 1_000_000)])
def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch, hard: int, known: int) -> None:
    limits = [(1024, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.append(pair))
    assert raise_file_limit() == known
    assert limits[-1] == (hard, hard)


def test_without_ipv6_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError

    monkeypatch.setattr(socket, "socket", refuse)
    assert not has_ipv6()


def reserved(address: ListenAddress) -> contextlib.closing[ReservedPort]:
    return contextlib.closing(ReservedPort(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
def test_a_free_port_is_found_and_kept(host: str | None) -> None:
    with reserved(ListenAddress(host, 0)) as port:
        assert port.port > 0
        with pytest.raises(Error, match="Address already in use"):
            ReservedPort(ListenAddress(host, port.port))
        # Envoy may listen there beside it.
        with socket.socket(
            socket.AF_INET6 if host == "::1" or (host is None and has_ipv6()) else socket.AF_INET
        ) as envoy:
            envoy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            envoy.bind((host or ("::" if has_ipv6() else "0.0.0.0"), port.port))
            envoy.listen()


def test_a_port_that_another_edge_shares_is_taken() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(Error, match=f"cannot listen on 127.0.0.1:{number}: Address already in use"):
            ReservedPort(ListenAddress("127.0.0.1", number))


def test_a_chosen_port_is_left_free_for_envoy() -> None:
    with reserved(ListenAddress("127.0.0.1", 0)) as found:
        number = found.port
    with reserved(ListenAddress("127.0.0.1", number)) as port, socket.socket() as envoy:
        assert port.port == number
        envoy.bind(("127.0.0.1", number))
