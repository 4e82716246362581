"""A fleet: who does what when, what is counted, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from mtls_ambassador.lab.credentials import Credentials, CredentialsError
from mtls_ambassador.lab.device import AUTH_REQUESTS, CONNECT, INVENTORY, NEXT_V1, NEXT_V2, SimulatedDevice
from mtls_ambassador.lab.fleet import Fleet, Habits, run_for
from mtls_ambassador.lab.statistics import Statistics
from tests.unit.lab.device_api import DeviceApi, credentials, device_of
from tests.world import eventually

AUTHENTICATE = f"POST {AUTH_REQUESTS}"
NEVER = 3600.0
RARELY = Habits(update_interval=NEVER, inventory_interval=NEVER, retry_interval=0.01)


class Scene:
    def __init__(self, api: DeviceApi, url: str, found: Credentials) -> None:
        self.api = api
        self.url = url
        self.found = found
        self.statistics = Statistics()

    def fleet(self, count: int, habits: Habits = RARELY) -> Fleet:
        def make(number: int) -> SimulatedDevice:
            return device_of(self.url, self.found, identity={"mac": str(number)}, observe=self.statistics.call)

        return Fleet(make, count, habits, self.statistics)


@pytest.fixture(scope="module")
def found() -> Credentials:
    return credentials()


@pytest.fixture
async def scene(found: Credentials) -> AsyncIterator[Scene]:
    api = DeviceApi()
    async with RawTestServer(api) as server:
        yield Scene(api, str(server.make_url("")).rstrip("/"), found)


async def until(fleet: Fleet, running: asyncio.Task[None]) -> None:
    fleet.stop()
    await asyncio.wait_for(running, 10)


async def test_every_device_lives_and_nothing_fails(scene: Scene) -> None:
    fleet = scene.fleet(5)
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(f"POST {NEXT_V1}") == 5)
    assert (len(fleet), fleet.authenticated) == (5, 5)
    await until(fleet, running)
    for call in (AUTHENTICATE, f"PUT {INVENTORY}", f"POST {NEXT_V2}"):
        assert scene.api.count(call) == 5
    assert scene.statistics.failures == 0
    assert scene.statistics.calls == 20
    assert scene.statistics.summary(1.0).kinds["connection"].count == 5


async def test_intervals(scene: Scene) -> None:
    fleet = scene.fleet(1, Habits(update_interval=0.01, inventory_interval=NEVER))
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(f"POST {NEXT_V1}") >= 5)
    await until(fleet, running)
    assert scene.api.count(f"PUT {INVENTORY}") == 1


async def test_devices_start_one_after_the_other(scene: Scene) -> None:
    fleet = scene.fleet(2, Habits(ramp_up=NEVER))
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(f"POST {NEXT_V1}") == 1)
    assert fleet.authenticated == 1
    await until(fleet, running)
    assert scene.api.count(AUTHENTICATE) == 1, "who has not begun does not begin at the end"


async def test_tries_again_after_a_failure_and_counts_it(scene: Scene) -> None:
    scene.api.once(AUTHENTICATE, 503, {"error": "later"})
    scene.api.once(AUTHENTICATE, 503, {"error": "later"})
    fleet = scene.fleet(1)
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(f"POST {NEXT_V1}") == 1)
    await until(fleet, running)
    assert dict(scene.statistics.summary(1.0).errors) == {"authentication was refused: 503 later": 2}


async def test_authenticates_anew_without_need(scene: Scene) -> None:
    fleet = scene.fleet(1, Habits(update_interval=NEVER, inventory_interval=NEVER, reauthenticate_every=0.01))
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(AUTHENTICATE) >= 4)
    await until(fleet, running)
    assert scene.api.count(f"PUT {INVENTORY}") == 1


async def test_all_authenticate_at_once_when_told(scene: Scene) -> None:
    fleet = scene.fleet(5)
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: scene.api.count(f"POST {NEXT_V1}") == 5)
    fleet.authenticate_all()
    assert fleet.authenticated == 0
    await eventually(lambda: fleet.all_back_after)
    assert fleet.authenticated == 5
    await until(fleet, running)
    assert scene.api.count(AUTHENTICATE) == 10
    assert len(fleet.all_back_after) == 1


async def test_installs_what_is_offered(scene: Scene) -> None:
    artifact = {"artifact_name": "release-2", "source": {"uri": f"{scene.url}/artifact"}}
    scene.api.once(f"POST {NEXT_V2}", 200, {"id": "d", "artifact": artifact})
    fleet = scene.fleet(1)
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: fleet.artifacts.counts)
    await eventually(lambda: scene.api.count(f"PUT {INVENTORY}") == 2)
    await until(fleet, running)
    assert fleet.artifacts.counts == {"release-2": 1}
    assert scene.statistics.failures == 0


async def test_holds_websockets_and_opens_them_again(scene: Scene) -> None:
    fleet = scene.fleet(2, Habits(update_interval=NEVER, retry_interval=0.01, websocket=True))
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: fleet.sockets == 2)
    await scene.api.sockets[0].close(code=1011)
    await eventually(lambda: scene.api.count(f"GET {CONNECT}") == 3 and fleet.sockets == 2)
    await until(fleet, running)
    assert fleet.sockets == 0
    assert dict(scene.statistics.summary(1.0).errors) == {"the WebSocket was closed: code 1011": 1}


async def test_a_websocket_that_is_refused_is_an_error(scene: Scene) -> None:
    scene.api.once(f"GET {CONNECT}", 404)
    fleet = scene.fleet(1, Habits(update_interval=NEVER, retry_interval=0.01, websocket=True))
    running = asyncio.create_task(fleet.run())
    await eventually(lambda: fleet.sockets == 1)
    await until(fleet, running)
    assert list(scene.statistics.summary(1.0).errors) == ["the WebSocket was refused: 404 Invalid response status"]


async def test_runs_for_so_long(scene: Scene) -> None:
    await asyncio.wait_for(run_for(scene.fleet(1), 0.05), 10)
    assert scene.statistics.failures == 0


async def test_a_call_under_way_at_the_end_is_no_failure(scene: Scene) -> None:
    """It is waited for, and nothing follows it."""
    fleet = scene.fleet(1)
    began, ends = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.BaseRequest) -> web.StreamResponse:
        began.set()
        await ends.wait()
        return web.Response()

    scene.api.special[f"PUT {INVENTORY}"].append(slow)
    running = asyncio.create_task(fleet.run())
    await began.wait()
    fleet.stop()
    ends.set()
    await asyncio.wait_for(running, 10)
    assert scene.statistics.failures == 0
    assert scene.api.count(f"POST {NEXT_V2}") == 0


async def test_a_device_without_usable_credentials_ends_the_run() -> None:
    def none() -> Credentials:
        raise CredentialsError("no key")

    def make(_number: int) -> SimulatedDevice:
        return SimulatedDevice("https://edge.invalid", None, None, None, {}, credentials=none)

    with pytest.raises(CredentialsError, match="no key"):
        await run_for(Fleet(make, 3, RARELY, Statistics()), 5)
