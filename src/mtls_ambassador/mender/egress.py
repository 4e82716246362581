"""Plain HTTP to the egress socket, behind which Envoy does TLS, names, timeouts and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from mtls_ambassador.errors import Error
from mtls_ambassador.mender.errors import UpstreamUnavailable
from mtls_ambassador.wire import FAILURE_HEADER

_LARGEST_ANSWER = 1 << 20
_LONGEST_PAUSE = 300.0
_UNTOUCHED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Mender said."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds of `Retry-After`, where Mender gave them so; never so many that we would stop trying."""
        text = self.headers.get("Retry-After", "")
        return min(float(text), _LONGEST_PAUSE) if text.isascii() and text.isdigit() else None


class Egress:
    """Requests to Mender, for the time of an `async with`.

    Args:
        socket: The egress listener's Unix socket.
        connections: How many at the same time; further requests wait, and their time runs.
    """

    def __init__(self, socket: Path, *, connections: int) -> None:
        self._socket = str(socket)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._base = "http://mender"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._connector(),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_UNTOUCHED,
            max_field_size=65536,
            max_line_size=65536,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | CIMultiDict[str],
        body: bytes = b"",
        within: float,
    ) -> Answer:
        """One request; `within` seconds for everything.

        Raises:
            UpstreamUnavailable: no connection, no TLS, no answer in time, or one too large.
        """
        if self._session is None:
            raise RuntimeError("Egress is used outside its `async with`")
        try:
            async with self._session.request(
                method,
                f"{self._base}{path}",
                headers=headers,
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=within),
            ) as answer:
                content = await answer.content.read(_LARGEST_ANSWER + 1)
                while len(content) <= _LARGEST_ANSWER and (more := await answer.content.read(_LARGEST_ANSWER)):
                    content += more
        except TimeoutError as error:
            raise UpstreamUnavailable(f"Mender did not answer within {within:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error
        if len(content) > _LARGEST_ANSWER:
            raise UpstreamUnavailable(f"Mender's answer is larger than {_LARGEST_ANSWER} bytes")
        failure = answer.headers.get(FAILURE_HEADER)
        if failure is not None:
            raise UpstreamUnavailable(
                f"Mender cannot be reached: {failure.strip()}", "Check mender_backend, mender_ca and the network."
            )
        return Answer(answer.status, answer.headers, content)

    def _connector(self) -> aiohttp.BaseConnector:
        # Envoy counts the auth requests whose device is there. Those whose device has gone away still fly.
        return aiohttp.UnixConnector(self._socket, limit=self._connections, keepalive_timeout=50)

    def _failure(self, error: Exception) -> Error:
        return UpstreamUnavailable(f"the edge's egress socket failed: {type(error).__name__}: {error}")
