"""A byte-recording relay that stands before a server, to see what reached it."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self

# Not only at the start of a line: on a kept connection it follows the body of the request before.
_REQUEST_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (\S+) HTTP/1\.[01]\r\n")


class Relay:
    """Listens on a free port of loopback and passes bytes on to `port`, both ways, for the time of an `async with`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen = bytearray()
        """Everything that clients sent, in order of arrival."""
        self.connections: list[bytearray] = []
        """The same, each connection by itself."""
        self.port = 0
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Close all connections, and every new one at once, as if the server were gone."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let new connections through again."""
        self._is_cut = False

    def requests(self) -> list[tuple[str, str]]:
        """Method and target of every request seen."""
        return [(method.decode(), target.decode()) for method, target in _REQUEST_LINE.findall(bytes(self.seen))]

    def device_requests(self) -> list[tuple[str, str]]:
        """The same without the edge's own management calls."""
        return [request for request in self.requests() if not request[1].startswith("/api/management/")]

    def headers_of(self, target: str) -> list[dict[str, list[str]]]:
        """The headers (lower-case names, all values) of each request for `target`, in order."""
        found = []
        for match in _REQUEST_LINE.finditer(bytes(self.seen)):
            if match[2].decode() != target:
                continue
            head = bytes(self.seen)[match.end() :].split(b"\r\n\r\n", 1)[0].decode("latin-1")
            headers: dict[str, list[str]] = {}
            for line in head.split("\r\n"):
                name, _, value = line.partition(":")
                headers.setdefault(name.lower(), []).append(value.strip())
            found.append(headers)
        return found

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, upstream_writer}
        connection = bytearray()
        self.connections.append(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream_writer, connection))
                group.create_task(self._pump(upstream_reader, writer, None))
        except* OSError:
            pass  # one side has gone; the other is closed below
        finally:
            writer.close()
            upstream_writer.close()
            self._writers -= {writer, upstream_writer}
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray | None) -> None:
        while data := await reader.read(65536):
            if record is not None:
                self.seen += data
                record += data
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
