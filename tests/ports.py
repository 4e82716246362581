"""Ports of loopback for listeners that stop and come back."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10_000


def lasting_port() -> int:
    """A free TCP port that the kernel gives nobody meanwhile: it is below those of outgoing connections.

    The port of a listener that bound 0 is one of those (ip(7), ip_local_port_range): while the listener is away, any
    connection on the machine may take it. Chosen by chance, so that tests that run at once do not meet.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST, first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
