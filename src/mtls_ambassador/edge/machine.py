"""What this machine gives: file descriptors, processors, memory, address families, a free port."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

from mtls_ambassador.config.values import ListenAddress
from mtls_ambassador.edge.plan import BUFFER, Capacity
from mtls_ambassador.serving import any_address, tcp_listener

_CGROUP = Path("/sys/fs/cgroup")


def raise_file_limit() -> int:
    """Raise this process's soft limit of open files, which Envoy inherits, to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1_000_000 if hard == resource.RLIM_INFINITY else hard


def capacity(open_files: int) -> Capacity:
    """How many devices fit, and how much memory they may take.

    A connection may need one descriptor here and one upstream. Idle it takes about 30 kB; while it downloads more
    slowly than Mender sends, two full buffers. What all of them could take together may be more than there is: then
    Envoy turns connections away before the kernel kills it.

    Args:
        open_files: How many files a process may open.
    """
    connections = max(100, min(50_000, (open_files - 500) // 2))
    wanted = 256 * 2**20 + connections * (2 * BUFFER + 32768)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    there_is = min(machine, _number(_CGROUP / "memory.max") or machine)
    return Capacity(connections, min(wanted, there_is * 7 // 10))


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
