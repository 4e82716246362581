"""deviceconnect: which devices hold a WebSocket open, and the sessions of users with them.

What is known is gone with the server, as the WebSockets are. Source: Mender deviceconnect, devices API v1 and
management API v1.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

from starlette.websockets import WebSocketDisconnect

from mtls_ambassador.lab.messages import MENDER_CLIENT, SHELL, Message, decode, encode
from mtls_ambassador.lab.remote_session import SessionEnded
from mtls_ambassador.lab.server.records import Device, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal

CONNECTED, DISCONNECTED, UNKNOWN = "connected", "disconnected", "unknown"
_SHELL_FAILED = 2
_MOST_WAITING = 10_000  # messages of a device that a user has not read yet

Deliver = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Connectivity:
    """Whether a device is connected; times are RFC 3339 in UTC."""

    device_id: str
    status: str
    created: str
    updated: str


class UserSession:
    """A user's session with a device: a `Link` whose messages bear the session's id and the user's."""

    def __init__(self, device: DeviceSocket, user_id: str) -> None:
        self.id = str(uuid.uuid4())
        self._device = device
        self._user_id = user_id
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._has_shell = False

    async def send(self, message: Message) -> None:
        """Send to the device.

        Raises:
            SessionEnded: it is gone.
        """
        if message.protocol == SHELL and message.kind in {"new", "stop"}:
            self._has_shell = message.kind == "new"
        properties = {**message.properties, "user_id": self._user_id}
        await self._device.send(replace(message, session=self.id, properties=properties))

    async def receive(self) -> Message:
        """The next message from the device.

        Raises:
            SessionEnded: it is gone, or this session's messages were not read.
        """
        message = await self._inbox.get()
        if message is None:
            self.end()  # for whoever asks again
            raise SessionEnded("the device is not connected any more")
        return message

    def take(self, message: Message) -> None:
        """Keep a message from the device until it is read."""
        if self._inbox.qsize() < _MOST_WAITING:
            self._inbox.put_nowait(message)
        else:
            self._inbox = asyncio.Queue()
            self.end()

    def end(self) -> None:
        """Nothing comes any more."""
        self._inbox.put_nowait(None)

    async def leave(self) -> None:
        """End the shell that the user leaves behind."""
        if self._has_shell:
            with contextlib.suppress(SessionEnded):
                await self.send(Message(SHELL, "stop", properties={"status": _SHELL_FAILED}, body=b"user disconnected"))


@dataclass
class DeviceSocket:
    """A device's WebSocket, and the sessions that go over it by their ids."""

    deliver: Deliver
    sessions: dict[str, UserSession] = field(default_factory=dict)
    closed: bool = False

    async def send(self, message: Message) -> None:
        """Send to the device.

        Raises:
            SessionEnded: it is gone.
        """
        if self.closed:
            raise SessionEnded("the device is not connected any more")
        try:
            await self.deliver(encode(message))
        except (WebSocketDisconnect, RuntimeError) as error:  # what Starlette and uvicorn say to a send after the end
            raise SessionEnded("the device is not connected any more") from error

    def take(self, frame: bytes) -> None:
        """Hand a frame of the device to the session it names; one for nobody is dropped.

        Raises:
            MessageError: it is no message.
        """
        message = decode(frame)
        session = self.sessions.get(message.session)
        if session is not None:
            session.take(message)


class Deviceconnect:
    """The service.

    Args:
        device: The record of a device, from deviceauth; 404 if there is none.
        clock: Seconds since the epoch.
    """

    def __init__(self, device: Callable[[str], Device], clock: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._sockets: dict[str, DeviceSocket] = {}
        self._changed: dict[str, str] = {}

    def connected(self, device_id: str) -> bool:
        """Whether a device holds a WebSocket open."""
        return device_id in self._sockets

    def connectivity(self, device_id: str) -> Connectivity:
        """What is known of a device's connection.

        Raises:
            Refusal: 404, there is no such device.
        """
        device = self._device(device_id)
        changed = self._changed.get(device_id)
        status = CONNECTED if self.connected(device_id) else UNKNOWN if changed is None else DISCONNECTED
        return Connectivity(device_id, status, device.created, changed or device.created)

    @contextlib.contextmanager
    def attached(self, device_id: str, deliver: Deliver) -> Iterator[DeviceSocket]:
        """A device's WebSocket while it is open; of several of one device, the newest gets what users say."""
        socket = DeviceSocket(deliver)
        self._sockets[device_id] = socket
        self._changed[device_id] = rfc3339(self._clock())
        try:
            yield socket
        finally:
            socket.closed = True
            if self._sockets.get(device_id) is socket:
                del self._sockets[device_id]
                self._changed[device_id] = rfc3339(self._clock())
            for session in socket.sessions.values():
                session.end()

    @contextlib.asynccontextmanager
    async def session(self, device_id: str, user_id: str, *, absent: int = 404) -> AsyncIterator[UserSession]:
        """A user's session with a device.

        Args:
            device_id: The device.
            user_id: The user.
            absent: The status of the refusal of a device that is not connected.

        Raises:
            Refusal: 404 there is no such device; `absent` it is not connected.
        """
        self._device(device_id)
        socket = self._sockets.get(device_id)
        if socket is None:
            raise Refusal(absent, "device not connected" if absent == 404 else "device disconnected")
        session = UserSession(socket, user_id)
        socket.sessions[session.id] = session
        try:
            yield session
        finally:
            del socket.sessions[session.id]
            await session.leave()

    async def command(self, device_id: str, user_id: str, kind: str) -> None:
        """Have the Mender client do something: `check-update` or `send-inventory`.

        Raises:
            Refusal: 404, there is no such device, or it is not connected.
        """
        async with self.session(device_id, user_id) as session:
            try:
                await session.send(Message(MENDER_CLIENT, kind))
            except SessionEnded:
                raise Refusal(404, "device not connected") from None
