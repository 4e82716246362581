"""`edge.held_back`, with the sockets of a pretended Envoy."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Iterator

import pytest

from mtls_ambassador.edge.held_back import held_back
from mtls_ambassador.edge.plan import EdgePlan
from tests.unit.edge.plans import plan

_WORKERS = 3


@contextlib.contextmanager
def workers(host: str) -> Iterator[tuple[EdgePlan, list[socket.socket]]]:
    """Listening sockets as Envoy's workers have them, and the plan that says so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(family)) for _ in range(_WORKERS)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            each.bind((host, sockets[0].getsockname()[1] if each is not sockets[0] else 0))
            each.listen()
            each.setblocking(False)
        yield (
            dataclasses.replace(
                plan(), listen_host=host, listen_port=sockets[0].getsockname()[1], both_families=host == "::"
            ),
            sockets,
        )


def connect(stack: contextlib.ExitStack, host: str, port: int, *, timeout: float) -> None:
    client = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    client.settimeout(timeout)
    client.connect((host, port))


def accepted(sockets: list[socket.socket]) -> int:
    """Connections in the queues, taken out of them."""
    count = 0
    for each in sockets:
        with contextlib.suppress(BlockingIOError):
            while True:
                each.accept()[0].close()
                count += 1
    return count


@pytest.mark.parametrize(
    ("listen", "to"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
)
def test_no_connection_is_queued_while_they_are_held_back(listen: str, to: str) -> None:
    with contextlib.ExitStack() as stack:
        edge, sockets = stack.enter_context(workers(listen))
        for _ in range(10):
            connect(stack, to, edge.listen_port, timeout=20)
        with held_back(edge, listeners=_WORKERS):
            assert accepted(sockets) == 10  # what was queued before may still be had
            for _ in range(5):  # to whichever of the workers they would have gone
                with pytest.raises(TimeoutError):
                    connect(stack, to, edge.listen_port, timeout=0.1)
            assert accepted(sockets) == 0
        for _ in range(10):
            connect(stack, to, edge.listen_port, timeout=20)


def test_where_nobody_may_listen_nothing_is_held_back() -> None:
    elsewhere = dataclasses.replace(plan(), listen_host="192.0.2.1", listen_port=1, both_families=False)
    with held_back(elsewhere, listeners=1):
        pass


def test_an_error_of_the_block_is_not_hidden() -> None:
    with workers("127.0.0.1") as (edge, _), pytest.raises(OSError, match="of the block"), held_back(edge, listeners=1):
        raise OSError("of the block")
