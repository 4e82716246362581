"""New connections, held back for a moment, so that none is left in the kernel's queue when the listeners close.

The kernel finishes TCP handshakes by itself and queues the connections until Envoy accepts them; those that are still
queued when a listener closes are reset. No option of Envoy stops the one and not the other. So a socket of ours joins
Envoy's on their port (SO_REUSEPORT), a program tells the kernel to give it every new connection, and a filter on it
drops the first packet of each unanswered. Envoy empties its queue meanwhile. A peer whose packet was dropped sends it
again after a second (RFC 6298 section 2.1): by then it is refused, or served by whoever listens next.

Neither program needs a privilege: both are classic BPF (socket(7), SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF).
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator

import structlog

from mtls_ambassador.edge.plan import EdgePlan

_log = structlog.get_logger()

# asm-generic/socket.h; Python names none of them.
_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_RETURN = 0x06  # BPF_RET | BPF_K


@contextlib.contextmanager
def held_back(plan: EdgePlan, *, listeners: int) -> Iterator[None]:
    """Hold back new connections to Envoy's port for the time of the block; if the kernel does not let us, nothing.

    Args:
        plan: Where Envoy listens.
        listeners: How many sockets it has there, one for each worker.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_holding_back(plan, listeners))
        except OSError as error:
            _log.debug("new connections cannot be held back", reason=str(error))
        yield


@contextlib.contextmanager
def _holding_back(plan: EdgePlan, listeners: int) -> Iterator[None]:
    family = socket.AF_INET6 if ":" in plan.listen_host else socket.AF_INET
    with socket.socket(family) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            ours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not plan.both_families)
        ours.bind((plan.listen_host, plan.listen_port))
        _attach(ours, _SO_ATTACH_FILTER, 0)  # of each packet keep 0 bytes
        ours.listen()
        _attach(ours, _SO_ATTACH_REUSEPORT_CBPF, listeners)  # sockets are numbered from 0 on: ours is the last
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Linux before 5.3; a number that no socket has is ignored
                ours.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)


def _attach(to: socket.socket, option: int, result: int) -> None:
    """Attach a program of one instruction, which returns `result` (struct sock_fprog)."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, result))
    to.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", 1, ctypes.addressof(instruction)))
