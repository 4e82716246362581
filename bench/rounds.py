"""What is measured, in rounds: each peer once per round, and each round begins with another one."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import load
from bench.load import LoadError, Target
from bench.material import NAME, Kind, Material
from bench.measure import Cpu, Memory
from bench.peers import ALL, Peer, edge, upstream
from bench.programs import lab
from mtls_ambassador.lab.auth_request import auth_request
from tests.certificates import Holder

_AUTH_PATH = "/api/devices/v1/authentication/auth_requests"
_VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
_KINDS: dict[Kind, str] = {"p256": "P-256", "rsa2048": "RSA-2048"}
MEGABYTE = 10**6
Tell = Callable[[str], None]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Amounts:
    """How much of each; operations are those of one peer in one round."""

    rounds: int
    connections: int
    requests: int
    download: int
    """Bytes."""
    downloads: int
    idle: int
    starts: int
    """Rounds for what depends on the process: each peer is started anew in each."""
    auth_requests: int
    admissions: int
    settling: float = 3.0
    """Seconds after a start, for what it still does."""


FULL = Amounts(
    rounds=5,
    connections=400,
    requests=8000,
    download=100 * MEGABYTE,
    downloads=3,
    idle=2000,
    starts=5,
    auth_requests=600,
    admissions=100,
)
QUICK = Amounts(
    rounds=3,
    connections=160,
    requests=3000,
    download=100 * MEGABYTE,
    downloads=1,
    idle=500,
    starts=3,
    auth_requests=300,
    admissions=40,
)
SMOKE = Amounts(
    rounds=1,
    connections=4,
    requests=8,
    download=MEGABYTE,
    downloads=1,
    idle=8,
    starts=1,
    auth_requests=2,
    admissions=2,
    settling=0.0,
)


@dataclass
class Results:
    """All figures: operation, peer, one per round."""

    cpu: dict[str, dict[str, list[Cpu]]] = field(default_factory=dict)
    memory: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Bytes."""

    def add_cpu(self, operation: str, peer: str, cpu: Cpu) -> None:
        """One round's figure, of one operation."""
        self.cpu.setdefault(operation, {}).setdefault(peer, []).append(cpu)

    def add_memory(self, what: str, peer: str, size: float) -> None:
        """One round's figure."""
        self.memory.setdefault(what, {}).setdefault(peer, []).append(size)


def median(figures: Sequence[Cpu]) -> Cpu:
    """The round in the middle by its sum; the mean of both if there are two."""
    ordered = sorted(figures, key=lambda cpu: cpu.total)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return Cpu(statistics.mean((low.user, high.user)), statistics.mean((low.system, high.system)))


def run(directory: Path, amounts: Amounts, only: Sequence[str], tell: Tell) -> Results:
    """Measure everything.

    Args:
        directory: For files; empty.
        amounts: How much.
        only: Peers to measure, by name.
        tell: Is told what is being done.
    """
    results = Results()
    with upstream(directory / "upstream", amounts.download) as upstream_port:
        for kind in _KINDS:
            _one_kind(directory / kind, kind, upstream_port, amounts, only, results, tell)
        _fresh(directory, upstream_port, amounts, only, results, tell)
    if "edge" in only:
        _admission(directory, amounts, results, tell)
    return results


def _one_kind(
    directory: Path,
    kind: Kind,
    upstream_port: int,
    amounts: Amounts,
    only: Sequence[str],
    results: Results,
    tell: Tell,
) -> None:
    material = Material(kind, directory)
    device = material.device("dev-1")
    contexts = {name: material.context(device, version) for name, version in _VERSIONS.items()}
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(ALL[name](directory / name, material, upstream_port)) for name in only]
        for peer, context in itertools.product(peers, contexts.values()):
            try:
                load.require_same_work(peer.target(context, device))
            except LoadError as error:
                raise LoadError(f"{peer.name}: {error}") from error
        for number in range(amounts.rounds):
            for peer in _rotated(peers, number):
                tell(f"{_KINDS[kind]}, round {number + 1} of {amounts.rounds}: {peer.name}")
                for version, context in contexts.items():
                    target = peer.target(context, device)
                    with _measured(results, f"new connection, {version}, {_KINDS[kind]}", peer, amounts.connections):
                        load.new_connections(target, amounts.connections)
                if kind == "p256":
                    _established(results, peer, peer.target(contexts["TLS 1.3"], device), amounts)


def _established(results: Results, peer: Peer, target: Target, amounts: Amounts) -> None:
    with load.idle(target, load.CONNECTIONS) as connections:
        token = target.new_token()
        load.keep_alive(connections, token, 40)
        with _measured(results, "keep-alive request", peer, amounts.requests):
            load.keep_alive(connections, token, amounts.requests)


def _fresh(
    directory: Path, upstream_port: int, amounts: Amounts, only: Sequence[str], results: Results, tell: Tell
) -> None:
    """What depends on the process.

    Memory that was once used is not given back; and each process downloads at a pace of its own, which it keeps for as
    long as it runs.
    """
    material = Material("p256", directory / "fresh")
    device = material.device("dev-1")
    context = material.context(device, _VERSIONS["TLS 1.3"])
    for number in range(amounts.starts):
        for name in _rotated(only, number):
            tell(f"started anew, round {number + 1} of {amounts.starts}: {name}")
            with ALL[name](directory / f"fresh-{name}-{number}", material, upstream_port) as peer:
                target = peer.target(context, device)
                time.sleep(amounts.settling)
                rest = peer.processes.memory()
                _add_memory(results, "at rest", name, rest)
                if name == "edge":
                    for program, used in peer.processes.memory_by_name().items():
                        _add_memory(results, f"at rest, {program} alone", name, used)
                load.new_connections(target, 40)  # so that what is allocated only once is there
                before = peer.processes.memory()
                with load.idle(target, amounts.idle):
                    time.sleep(min(1.0, amounts.settling))
                    after = peer.processes.memory()
                results.add_memory("idle connection", name, (after.rss - before.rss) / amounts.idle)
                with target.connect() as connection:
                    token = target.new_token()
                    load.download(connection, token, amounts.download)  # so that all buffers have grown
                    with _measured(results, f"download of {amounts.download // MEGABYTE} MB", peer, amounts.downloads):
                        for _ in range(amounts.downloads):
                            load.download(connection, token, amounts.download)


def _admission(directory: Path, amounts: Amounts, results: Results, tell: Tell) -> None:
    material = Material("p256", directory / "admission")
    known = material.device("known")
    with (
        lab(directory / "lab") as lab_port,
        edge(directory / "admission-edge", material, lab_port) as peer,
    ):
        target = Target(peer.port, material.context(known, _VERSIONS["TLS 1.3"]))
        for number in range(amounts.rounds):
            tell(f"admission, round {number + 1} of {amounts.rounds}")
            data = auth_request_of(known, "known")
            with target.connect() as connection:
                load.exchange(connection, data)
                with _measured(results, "auth request of a known device", peer, amounts.auth_requests):
                    for _ in range(amounts.auth_requests):
                        load.exchange(connection, data)
            strangers = []
            for count in range(amounts.admissions):
                name = f"device-{number}-{count}"
                device = material.device(name)
                context = material.context(device, _VERSIONS["TLS 1.3"])
                strangers.append((Target(peer.port, context), auth_request_of(device, name)))
            with _measured(results, "first admission, connection included", peer, amounts.admissions):
                for stranger, request in strangers:
                    with stranger.connect() as connection:
                        load.exchange(connection, request)


def auth_request_of(device: Holder, name: str) -> bytes:
    """A whole HTTP request by which a device claims to be the one of this name."""
    signed = auth_request(device.key, {"mac": name})
    headers = {"Host": NAME, **signed.headers, "Content-Length": str(len(signed.body))}
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"POST {_AUTH_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + signed.body


@contextlib.contextmanager
def _measured(results: Results, operation: str, peer: Peer, count: int) -> Iterator[None]:
    processes = peer.processes
    before = processes.mark()
    yield
    results.add_cpu(operation, peer.name, processes.cpu_since(before).per(count))


def _add_memory(results: Results, what: str, peer: str, used: Memory) -> None:
    results.add_memory(what, peer, used.rss)
    results.add_memory(f"{what} (PSS)", peer, used.pss)


def _rotated(items: Sequence[_Item], by: int) -> Sequence[_Item]:
    by %= len(items)
    return [*items[by:], *items[:by]]


def machine() -> dict[str, str]:
    """Where the figures come from."""
    return {"processors": str(os.cpu_count()), "kernel": os.uname().release, "architecture": os.uname().machine}
