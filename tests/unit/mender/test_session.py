"""A management session is opened by one login at a time, renewed in time, and left in peace after a failure."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.errors import ManagementUnavailable, UpstreamUnavailable
from mtls_ambassador.mender.session import LOGIN_PATH, Login, PersonalAccessToken, expiry_of
from tests.unit.mender.scripted_egress import Clock, ScriptedEgress, Sent, answer

WALL = 1_800_000_000.0


def token(name: str, expires_in: float | None = None) -> str:
    claims = {"jti": name} | ({} if expires_in is None else {"exp": WALL + expires_in})
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


class Scene:
    def __init__(self, *answers: Answer | Exception) -> None:
        self.clock = Clock()
        self.egress = ScriptedEgress(*answers)
        self.login = Login(
            self.egress,
            "user@mender.io",
            "pä:ss",
            clock=self.clock,
            wall_clock=lambda: WALL + self.clock.now - 1000,
        )

    @property
    def logins(self) -> int:
        return len(self.egress.sent)

    async def failure(self) -> ManagementUnavailable:
        with pytest.raises(ManagementUnavailable) as caught:
            await self.login.token()
        return caught.value


async def test_logs_in_once() -> None:
    scene = Scene(answer(200, token("a").encode()))
    assert scene.login.status.label == "untried"
    for _ in range(3):
        assert await scene.login.token() == token("a")
    assert scene.egress.paths == [f"POST {LOGIN_PATH}"]
    (sent,) = scene.egress.sent
    scheme, _, credentials = sent.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(credentials).decode() == "user@mender.io:pä:ss"
    assert sent.body == b""
    assert scene.login.status.label == "ok"
    assert "user@mender.io" not in scene.login.status.text, "it stands on pages that anybody may read"


async def test_renews_after_four_fifths_of_its_life() -> None:
    scene = Scene(answer(200, token("a", 1000).encode()), answer(200, token("b", 2000).encode()))
    assert await scene.login.token() == token("a", 1000)
    scene.clock.now += 799
    assert await scene.login.token() == token("a", 1000)
    scene.clock.now += 2
    assert await scene.login.token() == token("b", 2000)


@pytest.mark.parametrize("expires_in", [-1e9, -5, 0, 1])
async def test_a_clock_that_is_off_causes_no_login_storm(expires_in: float) -> None:
    scene = Scene(answer(200, token("a", expires_in).encode()))
    for _ in range(10):
        assert await scene.login.token() == token("a", expires_in)
        scene.clock.now += 0.4
    assert scene.logins == 1


async def test_a_token_without_end_is_never_renewed() -> None:
    scene = Scene(answer(200, b" opaque-token\n"))
    assert await scene.login.token() == "opaque-token"
    scene.clock.now += 1e9
    assert await scene.login.token() == "opaque-token"


async def test_many_at_once_are_one_login() -> None:
    scene = Scene()
    gate = asyncio.Event()

    async def slow(_: Sent) -> Answer:
        await gate.wait()
        return answer(200, token("a").encode())

    scene.egress.steps = [slow]
    waiting = asyncio.gather(*(scene.login.token() for _ in range(20)))
    await asyncio.sleep(0)
    gate.set()
    assert set(await waiting) == {token("a")}
    assert scene.logins == 1


async def test_many_at_once_share_a_failure() -> None:
    scene = Scene(answer(401, {"error": "unauthorized"}))
    results = await asyncio.gather(*(scene.login.token() for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {ManagementUnavailable}
    assert scene.logins == 1


async def test_the_refused_token_is_forgotten_and_no_other() -> None:
    scene = Scene(answer(200, token("a").encode()), answer(200, token("b").encode()))
    await scene.login.token()
    scene.login.refuse("an older one")
    assert await scene.login.token() == token("a")
    scene.login.refuse(token("a"))
    assert await scene.login.token() == token("b")
    scene.login.refuse(token("a"))
    assert await scene.login.token() == token("b")
    assert scene.logins == 2


@pytest.mark.parametrize(
    ("reply", "label", "pause"),
    [
        (answer(401, {"error": "unauthorized"}), "credentials_refused", 60),
        (answer(403, {"error": "forbidden"}), "credentials_refused", 60),
        (answer(401, {"error": "2fa: token2fa is missing or wrong"}), "two_factor", 60),
        (answer(429, b"", Retry_After="30"), "busy", 30),
        (answer(429), "busy", 2),
        (answer(500), "error", 2),
        (answer(503, b"", Retry_After="7"), "error", 7),
        (answer(404), "error", 2),
        (answer(302, b"", Location="/login"), "error", 2),
        (answer(200, b""), "error", 60),
        (answer(200, b"<html> sign in </html>"), "error", 60),
        (answer(200, b"a\x00b"), "error", 60),
        (UpstreamUnavailable("Mender cannot be reached"), "unreachable", 2),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else None,
)
async def test_after_a_failure_it_waits(reply: Answer | Exception, label: str, pause: float) -> None:
    scene = Scene(reply, answer(200, token("a").encode()))
    failure = await scene.failure()
    assert failure.label == scene.login.status.label == label
    scene.clock.now += pause - 0.5
    again = await scene.failure()
    assert again.label == label
    assert again.what == failure.what
    assert again.retry_after == pytest.approx(0.5)
    assert scene.logins == 1
    scene.clock.now += 0.5
    assert await scene.login.token() == token("a")
    assert scene.login.status.label == "ok"


async def test_it_waits_longer_after_each_failure() -> None:
    scene = Scene()
    scene.egress.always = answer(500)
    for number, pause in enumerate([2, 4, 8, 16, 32, 60, 60, 60], 1):
        await scene.failure()
        scene.clock.now += pause - 0.5
        assert (await scene.failure()).retry_after == pytest.approx(0.5)
        assert scene.logins == number
        scene.clock.now += 0.5


async def test_it_goes_on_trying_however_long_mender_is_away() -> None:
    """Two days of failures once a minute."""
    scene = Scene()
    scene.egress.always = answer(500)
    for _ in range(2880):
        assert (await scene.failure()).label == "error"
        scene.clock.now += 61
    scene.egress.always = answer(200, token("a").encode())
    assert await scene.login.token() == token("a")


async def test_a_success_ends_the_waiting() -> None:
    scene = Scene(
        answer(500), answer(500), answer(200, token("a").encode()), answer(500), answer(200, token("b").encode())
    )
    for pause in (2, 4):
        await scene.failure()
        scene.clock.now += pause
    await scene.login.token()
    scene.login.accept()
    scene.login.refuse(token("a"))
    await scene.failure()
    scene.clock.now += 2
    assert await scene.login.token() == token("b")


@pytest.mark.parametrize("reply", [answer(503), UpstreamUnavailable("?")], ids=["down", "unreachable"])
async def test_a_token_near_its_end_is_used_while_no_other_is_to_be_had(reply: Answer | Exception) -> None:
    scene = Scene(answer(200, token("a", 1000).encode()), reply, answer(200, token("b", 2000).encode()))
    await scene.login.token()
    scene.clock.now += 900
    for _ in range(3):
        assert await scene.login.token() == token("a", 1000)
    assert scene.logins == 2
    scene.clock.now += 2
    assert await scene.login.token() == token("b", 2000)


async def test_a_token_near_its_end_is_not_used_once_the_credentials_are_refused() -> None:
    scene = Scene(answer(200, token("a", 1000).encode()), answer(401))
    await scene.login.token()
    scene.clock.now += 900
    for _ in range(2):
        assert (await scene.failure()).label == "credentials_refused"
    assert scene.logins == 2


async def test_a_caller_that_gives_up_does_not_take_the_login_from_the_others() -> None:
    scene = Scene()
    gate = asyncio.Event()

    async def slow(_: Sent) -> Answer:
        await gate.wait()
        return answer(200, token("a").encode())

    scene.egress.steps = [slow]
    impatient, patient = (asyncio.create_task(scene.login.token()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    gate.set()
    assert await patient == token("a")
    assert scene.logins == 1


async def test_secrets_are_in_no_text() -> None:
    scene = Scene(answer(401, {"error": "unauthorized"}))
    failure = await scene.failure()
    for text in (str(failure), failure.remedy, scene.login.status.text, repr(scene.login)):
        assert "pä:ss" not in text


async def test_personal_access_token_is_given_until_it_is_refused() -> None:
    clock = Clock()
    session = PersonalAccessToken("pat", clock)
    assert session.status.label == "untried"
    assert await session.token() == "pat"
    session.accept()
    assert session.status.label == "ok"
    session.refuse("pat")
    assert session.status.label == "credentials_refused"
    assert "pat" not in session.status.text.split()
    with pytest.raises(ManagementUnavailable) as caught:
        await session.token()
    assert caught.value.label == "credentials_refused"
    assert caught.value.retry_after == 60
    clock.now += 60
    assert await session.token() == "pat", "the user may have mended it in Mender"
    session.accept()
    assert session.status.label == "ok"


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        (token("a", 10), WALL + 10),
        (token("a"), None),
        ("", None),
        ("a.b", None),
        ("a.b.c.d", None),
        ("a.!.c", None),
        ("a.bm8.c", None),
        ("a.W10.c", None),
        ("a." + base64.urlsafe_b64encode(b'{"exp":"soon"}').decode() + ".c", None),
        ("a." + base64.urlsafe_b64encode(b'{"exp":true}').decode() + ".c", None),
        ("a.\xff.c", None),
    ],
)
def test_expiry(text: str, expiry: float | None) -> None:
    assert expiry_of(text) == expiry


@given(st.text() | st.binary().map(lambda middle: f"a.{base64.urlsafe_b64encode(middle).decode()}.c"))
def test_expiry_of_anything_is_a_number_or_nothing(text: str) -> None:
    assert isinstance(expiry_of(text), float | None)
