"""Management calls: what is sent, what each answer means, and how little is asked of a server in trouble."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import pytest

from mtls_ambassador.mender import management as module
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import (
    DeviceLimitReached,
    ManagementForbidden,
    ManagementUnavailable,
    StateChanged,
    UpstreamUnavailable,
)
from mtls_ambassador.mender.management import AuthSet, AuthSetStatus, Management, MenderDevice, read_device
from mtls_ambassador.mender.session import LOGIN_PATH, Login, SessionStatus
from tests.unit.mender.scripted_egress import Clock, ScriptedEgress, Sent, answer
from tests.virtual_time import in_virtual_time

DEVICES = "/api/management/v2/devauth/devices"
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ID = "5a1a6f4e-6c0d-4e5b-9b1e-1a2b3c4d5e6f"


class ScriptedSession:
    """Gives `token-1`, and the next one when that is refused."""

    def __init__(self) -> None:
        self.status = SessionStatus("untried", "")
        self.number = 1
        self.accepted = 0

    async def token(self) -> str:
        return f"token-{self.number}"

    def refuse(self, token: str) -> None:
        if token == f"token-{self.number}":
            self.number += 1

    def accept(self) -> None:
        self.accepted += 1


class Scene:
    def __init__(self, *steps: Answer | Exception) -> None:
        self.clock = Clock()
        self.egress = ScriptedEgress(*steps)
        self.session = ScriptedSession()
        self.management = Management(self.egress, self.session, self.clock)

    async def preauthorise(self) -> str | None:
        return await self.management.preauthorise({"mac": "ä", "n": 1.0}, "PEM", "request-1")


async def test_preauthorises_without_force() -> None:
    scene = Scene(answer(201, b"", Location=f"devices/{ID}"))
    assert await scene.preauthorise() is None
    (sent,) = scene.egress.sent
    assert (sent.method, sent.path) == ("POST", DEVICES)
    assert json.loads(sent.body) == {"identity_data": {"mac": "ä", "n": 1}, "pubkey": "PEM"}
    assert dict(sent.headers) == {
        "Authorization": "Bearer token-1",
        "X-MEN-RequestID": "request-1",
        "Content-Type": "application/json",
    }
    assert scene.session.accepted == 1
    assert scene.management.calls == 1


async def test_conflict_names_the_device() -> None:
    assert await Scene(answer(409, {"id": ID, "auth_sets": None})).preauthorise() == ID


SETS = [{"id": "a-1", "pubkey": "PEM", "status": "pending", "ts": "2026-01-01T12:00:00.000Z"}]
DEVICE = answer(200, {"id": ID, "decommissioning": True, "auth_sets": SETS})


@dataclass(frozen=True)
class Chosen:
    auth_set_id: str
    leftovers: tuple[str, ...] = ()


def first_set(found: MenderDevice | None) -> Chosen | None:
    return Chosen(found.auth_sets[0].id) if found else None


async def test_reads_a_device_and_accepts_what_was_chosen() -> None:
    scene, shown = Scene(DEVICE, answer(204)), list[MenderDevice | None]()

    def choose(found: MenderDevice | None) -> Chosen | None:
        shown.append(found)
        return first_set(found)

    assert await scene.management.accept_where(ID, choose, "r")
    auth_set = AuthSet("a-1", "PEM", AuthSetStatus.PENDING, NOON)
    assert shown == [MenderDevice(ID, decommissioning=True, auth_sets=(auth_set,))]
    assert scene.egress.paths == [f"GET {DEVICES}/{ID}", f"PUT {DEVICES}/{ID}/auth/a-1/status"]
    read, accept = scene.egress.sent
    assert read.body == b""
    assert "Content-Type" not in read.headers
    assert json.loads(accept.body) == {"status": "accepted"}


@pytest.mark.parametrize(
    "deleted", [answer(204), answer(404), answer(403), answer(500), answer(429), UpstreamUnavailable("gone")], ids=str
)
async def test_leftovers_are_deleted_and_one_that_is_not_undoes_nothing(deleted: Answer | Exception) -> None:
    scene = Scene(DEVICE, answer(204), deleted, answer(204))
    assert await scene.management.accept_where(ID, lambda _: Chosen("a-1", ("a-2", "a-3")), "r")
    sent = [f"DELETE {DEVICES}/{ID}/auth/{name}" for name in ("a-2", "a-3")]
    waits = isinstance(deleted, Answer) and deleted.status == 429
    assert scene.egress.paths[2:] == (sent[:1] if waits else sent)


@pytest.mark.parametrize("found", [DEVICE, answer(404, {"error": "device not found"})], ids=["device", "no device"])
async def test_changes_nothing_where_nothing_was_chosen(found: Answer) -> None:
    scene, shown = Scene(found), list[MenderDevice | None]()

    def choose(device: MenderDevice | None) -> None:
        shown.append(device)

    assert not await scene.management.accept_where(ID, choose, "r")
    assert [device is None for device in shown] == [found.status == 404]
    assert [sent.method for sent in scene.egress.sent] == ["GET"]


@pytest.mark.parametrize(("status", "error"), [(422, DeviceLimitReached), (400, StateChanged), (404, StateChanged)])
async def test_what_accepting_may_meet(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Scene(DEVICE, answer(status, {"error": "?"})).management.accept_where(ID, first_set, "r")


async def test_reading_and_accepting_take_one_place_together() -> None:
    """So that a crowd of others cannot come between the two, nor an operator's decision be overlooked for long."""
    scene, order = Scene(), list[str]()

    async def told(sent: Sent) -> Answer:
        order.append(sent.method)
        await asyncio.sleep(0)
        return {"GET": DEVICE, "PUT": answer(204), "POST": answer(201)}[sent.method]

    scene.egress.always = told
    crowd = [scene.preauthorise() for _ in range(40)]
    await asyncio.gather(scene.management.accept_where(ID, first_set, "r"), *crowd)
    assert order[0] == "GET"
    assert order.index("PUT") <= 32


async def call(management: Management, name: str) -> object:
    if name == "preauthorise":
        return await management.preauthorise({"mac": "a"}, "PEM", "r")
    if name in ("read", "accept"):
        return await management.accept_where(ID, first_set, "r")
    return await management.probe()  # type: ignore[func-returns-value]


def scene_for(name: str, reply: Answer | Exception) -> Scene:
    """A scene in which this call gets this reply; the accepting one comes after a good reading one."""
    return Scene(DEVICE, reply) if name == "accept" else Scene(reply)


CALLS = ["preauthorise", "read", "accept", "probe"]
TROUBLES: list[tuple[Answer | Exception, str, float]] = [
    (answer(500), "error", 30),
    (answer(502, b"<html>"), "error", 30),
    (answer(503, b"", Retry_After="7"), "error", 7),
    (answer(429, b"", Retry_After="9"), "busy", 9),
    (answer(429), "busy", 5),
    (answer(429, b"", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), "busy", 5),
    (UpstreamUnavailable("Mender cannot be reached"), "unreachable", 30),
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("trouble", "label", "retry_after"), TROUBLES, ids=lambda value: str(value)[:12])
async def test_trouble(name: str, trouble: Answer | Exception, label: str, retry_after: float) -> None:
    with pytest.raises(ManagementUnavailable) as caught:
        await call(scene_for(name, trouble).management, name)
    assert caught.value.label == label
    assert caught.value.retry_after == retry_after


@pytest.mark.parametrize("name", CALLS[:3])
async def test_forbidden(name: str) -> None:
    scene = scene_for(name, answer(403, {"error": "unauthorized"}))
    with pytest.raises(ManagementForbidden):
        await call(scene.management, name)
    assert scene.session.accepted == len(scene.egress.sent), "the session is good, the role is narrow"


async def test_probe_does_not_mind_a_narrow_role() -> None:
    scene = Scene(answer(403), answer(200, {"count": 1}))
    await scene.management.probe()
    await scene.management.probe()
    assert scene.session.accepted == 2


@pytest.mark.parametrize("name", CALLS[:3])
@pytest.mark.parametrize("status", [200, 202, 204, 301, 302, 400, 402, 404, 405, 409, 413, 415, 418, 422])
async def test_answers_that_a_call_does_not_have(name: str, status: int) -> None:
    expected = {"preauthorise": {409}, "read": {200, 404}, "accept": {204, 400, 404, 422}}[name]
    if status in expected:
        return
    with pytest.raises(ManagementUnavailable) as caught:
        await call(scene_for(name, answer(status, b"<html>")).management, name)
    assert caught.value.label == "error"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'"x"', b"\xff", b"{}", b'{"id":7}', b'{"id":""}', b'{"id":"a/../b"}']
)
async def test_bodies_that_are_no_device(body: bytes) -> None:
    for name, status in (("preauthorise", 409), ("read", 200)):
        with pytest.raises(ManagementUnavailable) as caught:
            await call(Scene(answer(status, body)).management, name)
        assert caught.value.label == "error"


async def test_after_401_once_more_with_a_new_token() -> None:
    scene = Scene(answer(401), answer(201))
    assert await scene.preauthorise() is None
    assert [sent.headers["Authorization"] for sent in scene.egress.sent] == ["Bearer token-1", "Bearer token-2"]
    assert scene.egress.sent[0].body == scene.egress.sent[1].body


async def test_not_more_than_once() -> None:
    scene = Scene(answer(401), answer(401))
    with pytest.raises(ManagementUnavailable) as caught:
        await scene.preauthorise()
    assert caught.value.label == "credentials_refused"
    assert len(scene.egress.sent) == 2
    assert scene.session.accepted == 0


async def test_after_429_nothing_is_asked_for_a_while() -> None:
    scene = Scene(answer(429, b"", Retry_After="10"), answer(201))
    for left in (10, 10, 6, 2):
        scene.clock.now = 1010 - left
        with pytest.raises(ManagementUnavailable) as caught:
            await scene.preauthorise()
        assert caught.value.label == "busy"
        assert caught.value.retry_after == left
    assert len(scene.egress.sent) == 1
    scene.clock.now = 1010
    assert await scene.preauthorise() is None


async def test_a_login_that_helps_nothing_is_not_repeated_for_every_call() -> None:
    """Each may evict the session of another edge, whose next login evicts ours."""
    egress = ScriptedEgress()

    async def only_logins(sent: Sent) -> Answer:
        return answer(200, b"token") if sent.path == LOGIN_PATH else answer(401)

    egress.always = only_logins
    clock = Clock()
    management = Management(egress, Login(egress, "user", "password", clock=clock), clock)
    for _ in range(10):
        with pytest.raises(ManagementUnavailable) as caught:
            await management.probe()
        assert caught.value.retry_after > 0
    assert egress.paths.count(f"POST {LOGIN_PATH}") <= 3


@in_virtual_time
async def test_a_slow_answer_is_given_up() -> None:
    scene = Scene()

    async def never(_: Sent) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    scene.egress.always = never
    with pytest.raises(ManagementUnavailable) as caught:
        await scene.preauthorise()
    assert caught.value.label == "slow"


async def test_so_many_calls_at_once_and_no_more() -> None:
    scene = Scene()
    gate, under_way = asyncio.Event(), 0

    async def held(_: Sent) -> Answer:
        nonlocal under_way
        under_way += 1
        await gate.wait()
        under_way -= 1
        return answer(201)

    scene.egress.always = held
    calls = asyncio.gather(*(scene.preauthorise() for _ in range(100)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert under_way == 32
    gate.set()
    assert await calls == [None] * 100


@in_virtual_time
async def test_a_long_queue_is_no_trouble_while_it_moves() -> None:
    """A whole fleet comes back at once: the last of it waits far longer than one call may take."""
    scene = Scene()

    async def slowly(_: Sent) -> Answer:
        await asyncio.sleep(module._LONGEST_WAIT / 21)
        return answer(201)

    scene.egress.always = slowly
    assert await asyncio.gather(*(scene.preauthorise() for _ in range(32 * 20))) == [None] * 640


@in_virtual_time
async def test_a_queue_that_does_not_move_is_given_up() -> None:
    """Those who wait hear of it when those who call do, and not one after the other."""
    scene = Scene()

    async def never(_: Sent) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    scene.egress.always = never
    async with asyncio.timeout(2 * module._TIMEOUT):
        results = await asyncio.gather(*(scene.preauthorise() for _ in range(32 * 200)), return_exceptions=True)
    assert {type(result) for result in results} == {ManagementUnavailable}
    scene.egress.always = None
    scene.egress.steps.append(answer(201))
    assert await scene.preauthorise() is None, "every place is free again"


@in_virtual_time
async def test_a_queue_that_moves_too_slowly_is_given_up() -> None:
    scene = Scene()

    async def slowly(_: Sent) -> Answer:
        await asyncio.sleep(7)
        return answer(201)

    scene.egress.always = slowly
    results = await asyncio.gather(*(scene.preauthorise() for _ in range(32 * 7)), return_exceptions=True)
    served = 32 * 5  # those who begin at 0, 7, 14, 21 and 28 of 30 seconds
    assert results[:served] == [None] * served
    assert all(isinstance(result, ManagementUnavailable) for result in results[served:])


@in_virtual_time
async def test_who_leaves_the_queue_keeps_no_place() -> None:
    scene = Scene()
    gate = asyncio.Event()

    async def held(_: Sent) -> Answer:
        await gate.wait()
        return answer(201)

    scene.egress.always = held
    calls = [asyncio.ensure_future(scene.preauthorise()) for _ in range(64)]
    await asyncio.sleep(0)
    for leaving in calls[16:48]:
        leaving.cancel()
    gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert await asyncio.gather(*(scene.preauthorise() for _ in range(64))) == [None] * 64
    assert scene.management._places._value == 32


def device(**content: Any) -> dict[str, Any]:
    return {"id": ID, "auth_sets": [], **content}


@pytest.mark.parametrize(("shown", "meant"), [(True, True), (False, False), (None, False), ("true", False), (1, False)])
def test_decommissioning_is_true_or_it_is_not(shown: object, meant: bool) -> None:
    assert read_device(device(decommissioning=shown)).decommissioning is meant


def test_a_device_may_have_no_sets() -> None:
    assert read_device({"id": ID}).auth_sets == ()
    assert read_device(device(auth_sets=None)).auth_sets == ()


@pytest.mark.parametrize("status", ["frozen", "", None, 7, True, [], ["pending"], {}, "Pending", "unknown"])
def test_a_status_that_is_not_known_is_unknown(status: object) -> None:
    (found,) = read_device(device(auth_sets=[{"id": "a", "pubkey": "x", "status": status}])).auth_sets
    assert found.status is AuthSetStatus.UNKNOWN


@pytest.mark.parametrize(
    "sets", ["x", 7, {}, {"id": "a"}, ["x"], [None], [{}], [{"id": "a/b"}], [{"id": 7}], [{"id": "x" * 65}]]
)
def test_sets_that_are_none(sets: object) -> None:
    if not sets:
        assert read_device(device(auth_sets=sets)).auth_sets == ()
        return
    with pytest.raises(ManagementUnavailable):
        read_device(device(auth_sets=sets))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T12:00:00.000000000Z", NOON),
        ("2026-01-01T14:00:00+02:00", NOON),
        ("2026-01-01T12:00:00.001234567Z", NOON + dt.timedelta(microseconds=1234)),
        ("2026-01-01T12:00:00", None),
        ("soon", None),
        ("", None),
        (None, None),
        (1767268800, None),
        ([], None),
    ],
)
def test_times(text: object, time: dt.datetime | None) -> None:
    (found,) = read_device(device(auth_sets=[{"id": "a", "pubkey": "x", "status": "pending", "ts": text}])).auth_sets
    assert found.created == time
