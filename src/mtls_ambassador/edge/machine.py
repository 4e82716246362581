"""What this machine gives: file descriptors, processors, memory, address families, a free port."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

from mtls_ambassador.config.values import ListenAddress
from mtls_ambassador.edge.plan import BUFFER, LARGEST_AUTH_QUEUE, Capacity
from mtls_ambassador.errors import Error
from mtls_ambassador.serving import any_address, tcp_listener

_CGROUP = Path("/sys/fs/cgroup")
_OWN_FILES = 300
"""Descriptors of an Envoy that serves nobody, without its workers: 23 were counted, name resolution opens some more."""
_FILES_PER_WORKER = 10
"""Six were counted; one for a connection that is turned away, two since a full pool still gets one in each worker."""
_FEWEST_CONNECTIONS = 20


def raise_file_limit() -> int:
    """Raise this process's soft limit of open files, which Envoy inherits, to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1_000_000 if hard == resource.RLIM_INFINITY else hard


def capacity(open_files: int, workers: int) -> Capacity:
    """How many devices fit, and how much memory they may take.

    A connection may need one descriptor here and one upstream; while its auth request is under way, two more, one to
    the admission service and one from it. An Envoy that runs out of them can accept nobody, so all of it together stays
    below the limit: auth requests get a quarter, as far as they need it, and those beyond wait without any.

    Idle, a connection takes about 30 kB; while it downloads more slowly than Mender sends, two full buffers. What all
    of them could take together may be more than there is: then Envoy turns connections away before the kernel kills it.

    Args:
        open_files: How many files a process may open.
        workers: Envoy's worker threads.

    Raises:
        Error: hardly any device would fit.
    """
    left = open_files - _OWN_FILES - _FILES_PER_WORKER * workers
    auth_requests = min(LARGEST_AUTH_QUEUE, left // 8)
    connections = min(50_000, (left - 2 * auth_requests) // 2)
    if connections < _FEWEST_CONNECTIONS:
        raise Error(
            f"the limit of open files, {open_files}, is too low",
            "Raise it to 4096 or more (LimitNOFILE= in systemd, --ulimit nofile= in Docker).",
        )
    wanted = 256 * 2**20 + connections * (2 * BUFFER + 32768)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    there_is = min(machine, _number(_CGROUP / "memory.max") or machine)
    return Capacity(connections, auth_requests, min(wanted, there_is * 7 // 10))


def processors() -> int:
    """Whole processors this process may use: its affinity, and its cgroup's quota rounded up."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 here, or no quota
    return max(1, count)


class ReservedPort:
    """The port to listen on, found free, and kept from others if the user left the choice to us.

    Envoy listens with SO_REUSEPORT, so a second edge on the same port would not fail but share it: hence the look
    beforehand.

    Raises:
        Error: the port is taken, or needs a privilege.
    """

    def __init__(self, address: ListenAddress) -> None:
        host = address.host or any_address()
        with tcp_listener(host, address.port) as probe:
            self.port: int = probe.getsockname()[1]
        self._held: socket.socket | None = None
        if address.port == 0:
            # Bound but not listening, it gets no connections; it only keeps the number ours while Envoy restarts.
            self._held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._held.bind((host, self.port))

    def close(self) -> None:
        """Give the port back."""
        if self._held is not None:
            self._held.close()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
