"""Logins, sessions and personal access tokens."""

from __future__ import annotations

import base64
import json

import pytest

from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import DEVAUTH, PASSWORD, USER, USERADM, Answer, Peer, basic

LOGIN = f"{USERADM}/auth/login"
TOKENS = f"{USERADM}/settings/tokens"


async def login(peer: Peer, body: object = None, **headers: str) -> Answer:
    return await peer.call("POST", LOGIN, body, token="", **(headers or basic(USER, PASSWORD)))


async def good(peer: Peer, token: str) -> bool:
    found = await peer.call("GET", f"{DEVAUTH}/devices", token=token)
    assert found.status in {200, 401}
    return found.status == 200


def claims(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(found, dict)
    return found


class TestLogin:
    @pytest.mark.parametrize("user", [USER, USER.upper()])
    async def test_gives_a_raw_token(self, peer: Peer, user: str) -> None:
        found = await login(peer, **basic(user, PASSWORD))
        assert (found.status, found.headers["content-type"]) == (200, "application/jwt")
        assert await good(peer, found.text)
        assert claims(found.text)["exp"] == 1_800_604_801

    @pytest.mark.parametrize(
        ("headers", "text"),
        [
            (basic(USER, "wrong"), "unauthorized"),
            (basic(USER, PASSWORD.upper()), "unauthorized"),
            (basic("other@mender.io", PASSWORD), "unauthorized"),
            (basic("", ""), "unauthorized"),
            ({"X-None": "1"}, "invalid or missing auth header"),
            ({"Authorization": "Bearer x"}, "invalid or missing auth header"),
            ({"Authorization": "Basic !"}, "invalid or missing auth header"),
            ({"Authorization": "Basic " + base64.b64encode(b"no colon").decode()}, "invalid or missing auth header"),
        ],
    )
    async def test_with_wrong_credentials_is_refused(self, peer: Peer, headers: dict[str, str], text: str) -> None:
        found = await login(peer, **headers)
        assert (found.status, found.error) == (401, text)

    async def test_takes_options(self, peer: Peer, clock: Clock) -> None:
        for_ever = await login(peer, {"no_expiry": True})
        assert "exp" not in claims(for_ever.text)
        ordinary = await login(peer, {"no_expiry": False})
        clock.now += 604801
        assert await good(peer, for_ever.text)
        assert not await good(peer, ordinary.text)

    @pytest.mark.parametrize("body", [b"x", b"[]", b'{"no_expiry":"yes"}'])
    async def test_with_wrong_options_is_refused(self, peer: Peer, body: bytes) -> None:
        assert (await login(peer, body)).status == 400

    async def test_with_options_of_another_type_is_refused(self, peer: Peer) -> None:
        assert (await login(peer, b"{}", Content_Type="text/plain", **basic(USER, PASSWORD))).status == 415

    async def test_of_an_account_with_a_second_factor_needs_the_code(self, start: Start) -> None:
        async with start(two_factor=True) as peer:
            for body in (None, {}, {"token2fa": ""}, {"token2fa": "12345"}):
                found = await login(peer, body)
                assert found.status == 401
                assert "2fa" in found.error
            assert (await login(peer, {"token2fa": "123456"}, **basic(USER, "wrong"))).error == "unauthorized"
            assert (await login(peer, {"token2fa": "123456"})).status == 200


class TestSession:
    async def test_expires(self, start: Start, clock: Clock) -> None:
        async with start(session_lifetime=30.0) as peer:
            assert await good(peer, peer.token)
            clock.now += 29.5
            assert await good(peer, peer.token)
            clock.now += 0.5
            assert not await good(peer, peer.token)

    async def test_oldest_is_evicted_by_the_eleventh(self, peer: Peer) -> None:
        first = peer.token
        others = [await peer.log_in() for _ in range(9)]
        assert await good(peer, first)
        last = await peer.log_in()
        assert not await good(peer, first)
        assert all([await good(peer, token) for token in [*others, last]])

    async def test_ends_with_logout(self, peer: Peer) -> None:
        ended = peer.token
        assert (await peer.call("POST", f"{USERADM}/auth/logout")).status == 202
        assert not await good(peer, ended)
        assert (await peer.call("POST", f"{USERADM}/auth/logout")).status == 401

    async def test_is_revoked(self, peer: Peer) -> None:
        personal = peer.lab.create_token("ci")
        peer.lab.revoke_user_sessions()
        assert not await good(peer, peer.token)
        assert await good(peer, personal)

    async def test_ends_with_a_new_password(self, peer: Peer) -> None:
        personal = peer.lab.create_token("ci")
        peer.lab.change_password("new")
        assert not await good(peer, peer.token)
        assert not await good(peer, personal)
        assert (await login(peer)).status == 401
        assert (await login(peer, **basic(USER, "new"))).status == 200

    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic x"}, {"Authorization": "Bearer x"}]
    )
    async def test_is_needed(self, peer: Peer, headers: dict[str, str]) -> None:
        found = await peer.call("GET", f"{DEVAUTH}/devices", token="", **headers)
        assert found.status == 401
        assert found.headers["www-authenticate"] == 'Bearer realm="ManagementJWT"'
        assert found.error

    async def test_is_not_what_a_device_has(self, peer: Peer) -> None:
        token = await peer.accepted({"serial": "1"})
        assert not await good(peer, token)
        assert not await peer.alive(peer.token)

    async def test_belongs_to_the_user(self, peer: Peer) -> None:
        found = (await peer.call("GET", f"{USERADM}/users/me")).json
        assert set(found) == {"id", "email", "created_ts", "updated_ts", "login_ts"}
        assert found["email"] == USER
        assert (await peer.call("GET", f"{USERADM}/users/{found['id']}")).json == found
        assert (await peer.call("GET", f"{USERADM}/users/other")).status == 404


class TestPersonalAccessToken:
    async def test_is_used_like_a_session(self, peer: Peer, clock: Clock) -> None:
        found = await peer.call("POST", TOKENS, {"name": "ci", "expires_in": 60})
        assert (found.status, found.headers["content-type"]) == (200, "application/jwt")
        assert await good(peer, found.text)
        clock.now += 60
        assert not await good(peer, found.text)

    async def test_does_not_end_by_itself(self, peer: Peer, clock: Clock) -> None:
        for_ever = (await peer.call("POST", TOKENS, {"name": "ci"})).text
        clock.now += 10**9
        assert await good(peer, for_ever)

    async def test_is_not_evicted_by_sessions(self, peer: Peer) -> None:
        personal = peer.lab.create_token("ci")
        for _ in range(11):
            await peer.log_in()
        assert await good(peer, personal)

    async def test_is_listed_and_deleted(self, peer: Peer, clock: Clock) -> None:
        personal = peer.lab.create_token("ci", 60)
        peer.lab.create_token("other")
        ci, other = (await peer.call("GET", TOKENS)).json
        assert ci == {
            "id": claims(personal)["jti"],
            "name": "ci",
            "expiration_date": "2027-01-15T08:01:00.250Z",
            "created_ts": "2027-01-15T08:00:00.250Z",
        }
        assert set(other) == {"id", "name", "created_ts"}
        await good(peer, personal)
        used = clock.now
        clock.now += 10  # within the grain of five minutes
        await good(peer, personal)
        assert (await peer.call("GET", TOKENS)).json[0]["last_used"] == "2027-01-15T08:00:00.250Z"
        assert used == 1_800_000_000.25
        assert (await peer.call("DELETE", f"{TOKENS}/{ci['id']}")).status == 204
        assert not await good(peer, personal)
        assert (await peer.call("DELETE", f"{TOKENS}/{ci['id']}")).status == 204

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"x",
            {},
            {"name": ""},
            {"name": "x" * 4097},
            {"name": 1},
            {"name": "x", "expires_in": -1},
            {"name": "x", "expires_in": 31536001},
            {"name": "x", "expires_in": "60"},
        ],
    )
    async def test_of_a_wrong_form_is_refused(self, peer: Peer, body: object) -> None:
        assert (await peer.call("POST", TOKENS, body)).status == 400

    async def test_of_the_same_name_is_refused(self, peer: Peer) -> None:
        peer.lab.create_token("ci")
        found = await peer.call("POST", TOKENS, {"name": "ci"})
        assert (found.status, found.error) == (409, "Personal Access Token with a given name already exists")

    async def test_beyond_the_tenth_is_refused(self, peer: Peer) -> None:
        for number in range(10):
            peer.lab.create_token(str(number))
        assert (await peer.call("POST", TOKENS, {"name": "11"})).status == 422


class TestRole:
    async def test_of_preauthorizing_only_is_held(self, start: Start) -> None:
        async with start(role="preauthorize-only") as peer:
            assert (await peer.preauthorize({"serial": "1"})).status == 201
            (device,) = peer.lab.devices()
            for method, path in (
                ("GET", "devices"),
                ("GET", f"devices/{device.id}"),
                ("DELETE", f"devices/{device.id}"),
                ("POST", "devices/search"),
                ("GET", "limits/max_devices"),
            ):
                found = await peer.call(method, f"{DEVAUTH}/{path}")
                assert (found.status, bool(found.error)) == (403, True)
            assert (await peer.call("GET", f"{DEVAUTH}/devices", token="x")).status == 401
            assert (await peer.call("GET", f"{USERADM}/users/me")).status == 200

    async def test_changes_at_run_time(self, peer: Peer) -> None:
        peer.lab.set_role("preauthorize-only")
        assert (await peer.call("GET", f"{DEVAUTH}/devices")).status == 403
        peer.lab.set_role("full")
        assert (await peer.call("GET", f"{DEVAUTH}/devices")).status == 200
