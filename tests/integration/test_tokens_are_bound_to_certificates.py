"""With `bind_tokens` a token is good on its certificate's connections only, and Mender sees the one inside it only.

A hostile device has a valid certificate of its own, and somebody else's tokens: bound ones, and Mender's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, CONNECT, INVENTORY, NEXT_V1
from mtls_ambassador.lab.transport import RefusedError
from mtls_ambassador.tokens.bound import LONGEST
from mtls_ambassador.tokens.keys import TokenKey
from tests.attempts import Answer, Headers, SeenRequest, attempt, lines_about, parse_requests, request
from tests.certificates import Holder
from tests.connected_device import connected_device
from tests.forged_tokens import claims_for, claims_of, forge, header_of, hs256, new_token_key, pem, public_pem
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, FOREIGN = new_token_key(), new_token_key()
PUBLIC_FREE = "/api/devices/v1/deployments/download/x?signature=1"
JSON = ("Content-Type", "application/json")
UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@dataclass(frozen=True)
class Admitted:
    """A device, and its tokens."""

    holder: Holder
    bound: str
    raw: str
    """Mender's own, which is inside."""


@dataclass
class Scene:
    w: World
    honest: Admitted
    hostile: Admitted

    async def ask(
        self,
        who: Admitted,
        headers: Headers,
        *,
        method: str = "PUT",
        target: str = INVENTORY,
        body: bytes = b"[]",
    ) -> tuple[Answer, list[SeenRequest], str]:
        """A request: the answer, what of it came to Mender, and what the log says of it."""
        before = len(self.w.relay.seen)
        more = [JSON, *headers]
        tried = await attempt(self.w.edge.port, request(method, target, more, body), self.w.client_context(who.holder))
        seen = parse_requests(bytes(self.w.relay.seen[before:]))
        await eventually(lambda: lines_about(self.w.log_text(), tried.address))
        return tried.answer, seen, "\n".join(lines_about(self.w.log_text(), tried.address))


async def _admitted(w: World, name: str) -> Admitted:
    holder = w.ca.device(name)
    async with w.device(holder, {"mac": name}) as device:
        bound = await device.authenticate()
    return Admitted(holder, bound, claims_of(bound)["mtk"])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    directory = tmp_path_factory.mktemp("world")
    async with world(
        directory, bind_tokens=True, token_key=pem(KEY), storage_paths="/artifacts/", access_log="all"
    ) as w:
        yield Scene(w, await _admitted(w, "honest"), await _admitted(w, "hostile"))


def bearer(token: str, scheme: str = "Bearer") -> tuple[str, str]:
    return "Authorization", f"{scheme} {token}"


async def test_a_token_names_its_certificate_and_ends_with_menders(scene: Scene) -> None:
    claims = claims_of(scene.honest.bound)
    assert claims.keys() == {"iss", "exp", "cnf", "mtk"}
    assert claims["cnf"] == {"x5h": scene.honest.holder.fingerprint}
    assert claims["exp"] == claims_of(scene.honest.raw)["exp"]
    assert claims_of(scene.honest.raw)["iss"] == "Mender"


Shown = Callable[[Scene], Sequence[tuple[str, str]]]


@pytest.mark.parametrize(
    "shown",
    [
        lambda s: [bearer(s.honest.bound)],
        lambda s: [bearer(s.honest.bound, "bearer")],
        lambda s: [("AUTHORIZATION", f"Bearer   {s.honest.bound}")],
        lambda s: [bearer(s.honest.bound), ("Cookie", f"JWT={s.hostile.raw}")],
        lambda s: [bearer(s.honest.bound), ("Cookie", f"a=b; JWT={s.hostile.raw}"), ("cookie", "JWT=x")],
        lambda s: [bearer(s.honest.bound), ("Proxy-Authorization", f"Bearer {s.hostile.raw}")],
        lambda s: [bearer(s.honest.bound), ("X-Authorization", f"Bearer {s.hostile.raw}")],
        lambda s: [("Authorization", f"Basic QTpC, Bearer {s.honest.bound}")],
    ],
)
async def test_mender_sees_what_is_inside_and_no_other_credential(scene: Scene, shown: Shown) -> None:
    answer, (seen,), _ = await scene.ask(scene.honest, shown(scene))
    assert answer.status == 200
    assert seen.headers["authorization"] == (f"Bearer {scene.honest.raw}",)
    assert "cookie" not in seen.headers
    assert scene.honest.bound not in str(seen)


STOLEN: dict[str, Shown] = {
    "nothing": lambda s: [],
    "an empty header": lambda s: [("Authorization", "")],
    "no token": lambda s: [("Authorization", "Bearer")],
    "Mender's token of its own": lambda s: [bearer(s.hostile.raw)],
    "Mender's token of another device": lambda s: [bearer(s.honest.raw)],
    "the same in lower case": lambda s: [bearer(s.honest.raw, "bearer")],
    "the same in upper case": lambda s: [bearer(s.honest.raw, "BEARER")],
    "the same without its scheme": lambda s: [("Authorization", s.honest.raw)],
    "another scheme": lambda s: [bearer(s.hostile.bound, "Basic")],
    "a bound token of another device": lambda s: [bearer(s.honest.bound)],
    "its own, twice": lambda s: [bearer(s.hostile.bound), bearer(s.hostile.bound)],
    "its own, then Mender's": lambda s: [bearer(s.hostile.bound), bearer(s.honest.raw)],
    "Mender's, then its own": lambda s: [bearer(s.honest.raw), bearer(s.hostile.bound)],
    "its own, then another's": lambda s: [bearer(s.hostile.bound), bearer(s.honest.bound)],
    "another's, then its own": lambda s: [bearer(s.honest.bound), bearer(s.hostile.bound)],
    "its own, then Mender's in lower case": lambda s: [bearer(s.hostile.bound), bearer(s.honest.raw, "bearer")],
    "both in one header": lambda s: [("Authorization", f"Bearer {s.hostile.bound}, Bearer {s.honest.raw}")],
    "both the other way round": lambda s: [("Authorization", f"Bearer {s.honest.raw}, Bearer {s.hostile.bound}")],
    "both in both cases": lambda s: [("Authorization", f"bearer {s.honest.raw} Bearer {s.hostile.bound}")],
    "both in both cases, the other way round": lambda s: [
        ("Authorization", f"Bearer {s.honest.raw} bearer {s.hostile.bound}")
    ],
    "a cookie": lambda s: [("Cookie", f"JWT={s.honest.raw}")],
    "a cookie with its own token": lambda s: [("Cookie", f"JWT={s.hostile.bound}")],
    "a header with an underscore": lambda s: [("Authorization_", f"Bearer {s.hostile.bound}")],
    "a header of proxies": lambda s: [("X-Forwarded-Authorization", f"Bearer {s.hostile.bound}")],
    "60 kB of nothing": lambda s: [bearer("a." + "b" * 50_000 + ".c")],
    "cut": lambda s: [bearer(s.hostile.bound[:-4])],
    "extended": lambda s: [bearer(f"{s.hostile.bound}.x")],
    "with another's claims": lambda s: [bearer(_mixed(s.hostile.bound, s.honest.bound))],
}


@pytest.mark.parametrize("shown", STOLEN.values(), ids=STOLEN)
async def test_anything_else_is_401_and_mender_hears_nothing(scene: Scene, shown: Shown) -> None:
    answer, seen, log = await scene.ask(scene.hostile, shown(scene))
    _assert_refused(answer, seen)
    assert any(reason in log for reason in ("token_refused", "token_of_another_certificate", "token_of_unknown_key"))


async def test_each_request_of_a_connection_is_looked_at(scene: Scene) -> None:
    own, other = scene.hostile.bound, scene.honest
    wanted = {own: 204, other.raw: 401, other.bound: 401}
    shown = [own, other.raw, own, other.bound, own]
    target = f"{NEXT_V1}?artifact_name=a&device_type=b"
    data = b"".join(request("GET", target, [bearer(token), ("Connection", "keep-alive")]) for token in shown)
    before = len(scene.w.relay.seen)
    tried = await attempt(scene.w.edge.port, data, scene.w.client_context(scene.hostile.holder), answers=len(shown))
    assert [answer.status for answer in tried.answers] == [wanted[token] for token in shown]
    seen = parse_requests(bytes(scene.w.relay.seen[before:]))
    assert [one.headers["authorization"] for one in seen] == [(f"Bearer {scene.hostile.raw}",)] * 3


@pytest.mark.parametrize("name", ["access_token", "token", "jwt", "JWT", "authorization"])
@pytest.mark.parametrize("own", [True, False])
async def test_no_token_is_taken_from_the_query(scene: Scene, name: str, own: bool) -> None:
    token = scene.hostile.bound if own else scene.honest.raw
    answer, seen, _ = await scene.ask(scene.hostile, [], target=f"{INVENTORY}?{name}={token}")
    _assert_refused(answer, seen)


async def test_the_log_tells_a_copied_token_from_an_old_one(scene: Scene) -> None:
    _, _, log = await scene.ask(scene.hostile, [bearer(scene.honest.bound)])
    assert "warning" in log
    assert "refused 127.0.0.1" in log
    assert "the device token was handed out to another certificate" in log
    assert "subject='CN=hostile'" in log
    _, _, log = await scene.ask(scene.hostile, [bearer(scene.honest.raw)])
    assert "reason=token_refused" in log
    assert "warning" not in log


def _mixed(mine: str, other: str) -> str:
    head, _, signature = mine.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


def _assert_refused(answer: Answer, seen: list[SeenRequest]) -> None:
    assert answer.status == 401
    assert answer.json()["error"] == "the device token is not valid"
    assert answer.json().keys() == {"error", "request_id"}
    assert answer.header("www-authenticate") == "Bearer"
    assert seen == []


Forged = Callable[[Scene], str]


def _signed(sign_with: TokenKey, *, header: dict[str, object] | None = None, **claims: object) -> Forged:
    def make(s: Scene) -> str:
        return forge(
            sign_with.sign,
            header_of(sign_with, **(header or {})),
            claims_for(s.hostile.holder.fingerprint, s.honest.raw, **claims),
        )

    return make


def _by_secret(secret: bytes) -> Forged:
    def make(s: Scene) -> str:
        claims = claims_for(s.hostile.holder.fingerprint, s.honest.raw)
        return forge(hs256(secret), header_of(KEY, alg="HS256"), claims)

    return make


FORGED: dict[str, Forged] = {
    "an unknown key": _signed(FOREIGN),
    "an unknown key under a known id": _signed(FOREIGN, header={"kid": KEY.id}),
    "an unknown key without an id": _signed(FOREIGN, header={"kid": None}),
    "an unknown key that comes along": _signed(FOREIGN, header={"jwk": FOREIGN.public_jwk, "kid": FOREIGN.id}),
    "an unknown key at a URL": _signed(FOREIGN, header={"jku": "http://127.0.0.1/", "x5u": "http://127.0.0.1/"}),
    "a key id that is a path": _signed(FOREIGN, header={"kid": "../../../dev/null"}),
    "no algorithm": _signed(KEY, header={"alg": "none"}),
    "no algorithm, oddly spelled": _signed(KEY, header={"alg": "nOnE"}),
    "no algorithm named": _signed(KEY, header={"alg": None}),
    "another algorithm": _signed(KEY, header={"alg": "ES384"}),
    "RSA": _signed(KEY, header={"alg": "RS256"}),
    "the public key as a secret": _by_secret(public_pem(KEY)),
    "its coordinate as a secret": _by_secret(KEY.public_jwk["x"].encode()),
    "nothing as a secret": _by_secret(b""),
    "no signature": lambda s: _signed(KEY)(s).rpartition(".")[0] + ".",
    "a signature of zeros": lambda s: _signed(KEY)(s).rpartition(".")[0] + "." + "A" * 86,
    "another issuer": _signed(KEY, iss="Mender"),
    "no issuer": _signed(KEY, iss=None),
    "expired": _signed(KEY, exp=int(time.time()) - 120),
    "no end": _signed(KEY, exp=None),
    "an end that is text": _signed(KEY, exp="4000000000"),
    "an end before all time": _signed(KEY, exp=-1),
    "not good yet": _signed(KEY, nbf=int(time.time()) + 3600),
    "no certificate": _signed(KEY, cnf=None),
    "no fingerprint": _signed(KEY, cnf={}),
    "an empty fingerprint": _signed(KEY, cnf={"x5h": ""}),
    "a list of fingerprints": lambda s: _signed(KEY, cnf={"x5h": [s.hostile.holder.fingerprint]})(s),
    "a fingerprint in capitals": lambda s: _signed(KEY, cnf={"x5h": s.hostile.holder.fingerprint.upper()})(s),
    "the fingerprint elsewhere": lambda s: _signed(KEY, cnf=None, x5h=s.hostile.holder.fingerprint)(s),
    "another's fingerprint": lambda s: _signed(KEY, cnf={"x5h": s.honest.holder.fingerprint})(s),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
async def test_forged_tokens_are_refused(scene: Scene, forged: Forged) -> None:
    """Some are signed by the edge's own key: what only a fault of ours could hand out does no harm either."""
    answer, seen, _ = await scene.ask(scene.hostile, [bearer(forged(scene))])
    _assert_refused(answer, seen)


async def test_the_forger_could_make_one_that_is_taken(scene: Scene) -> None:
    answer, (seen,), _ = await scene.ask(scene.hostile, [bearer(_signed(KEY)(scene))])
    assert answer.status == 200
    assert seen.headers["authorization"] == (f"Bearer {scene.honest.raw}",)


@pytest.mark.parametrize("inner", ["a.b.c", "a." + "b" * (LONGEST - 4) + ".c"], ids=["short", "as long as can be"])
async def test_menders_own_401_passes(scene: Scene, inner: str) -> None:
    """Such as that of a token that Mender has withdrawn."""
    answer, (seen,), _ = await scene.ask(scene.hostile, [bearer(_signed(KEY, mtk=inner)(scene))])
    assert (answer.status, seen.headers["authorization"]) == (401, (f"Bearer {inner}",))
    assert answer.json()["error"] != "the device token is not valid"


@pytest.mark.parametrize("target", [PUBLIC_FREE, "/artifacts/x.mender?signature=1"])
@pytest.mark.parametrize("with_tokens", [True, False])
async def test_downloads_need_no_token_and_bear_none(scene: Scene, target: str, with_tokens: bool) -> None:
    stolen = [bearer(scene.honest.raw), ("Cookie", f"JWT={scene.honest.raw}")] if with_tokens else []
    _, (seen,), _ = await scene.ask(scene.hostile, stolen, method="GET", target=target, body=b"")
    assert seen.target == target
    assert not {"authorization", "cookie"} & seen.headers.keys()


@pytest.mark.parametrize(
    "target",
    [
        "/api/devices/v1/deployments/downloads",
        "/api/devices/v1/deployments/download/../device/deployments/next",
        "/api/devices/v1/deployments/download/%2e%2e/device/deployments/next",
        "/api/devices/v1//deployments/device/download/x",
        f"{INVENTORY}?/api/devices/v1/deployments/download/x",
        f"{INVENTORY}#/api/devices/v1/deployments/download/x",
        "/api/devices/v1/deployments/download/..;/device/deployments/next",
        "/api/devices/v1/deployments/download;x=1/../device/deployments/next",
    ],
)
async def test_no_path_only_looks_like_a_download(scene: Scene, target: str) -> None:
    answer, seen, _ = await scene.ask(scene.hostile, [bearer(scene.honest.raw)], method="GET", target=target, body=b"")
    assert answer.status in (400, 401)
    assert seen == []


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/status", 200),
        ("GET", "/", 404),
        ("GET", "/api/management/v1/inventory/devices", 404),
        ("GET", AUTH_REQUESTS, 404),
        ("GET", "/api/devices/v1/a%2500", 400),
    ],
)
async def test_other_answers_of_the_edge_stay_as_they_are(scene: Scene, method: str, target: str, status: int) -> None:
    answer, seen, _ = await scene.ask(scene.hostile, [], method=method, target=target, body=b"")
    assert (answer.status, seen) == (status, [])


async def test_an_auth_request_needs_no_token_and_bears_no_cookie(scene: Scene) -> None:
    signed = auth_request(scene.honest.holder.key, {"mac": "honest"}, "the-tenant-token")
    headers = [*signed.headers.items(), ("Accept-Encoding", "gzip"), ("Cookie", f"JWT={scene.hostile.raw}")]
    before = len(scene.w.relay.seen)
    tried = await attempt(
        scene.w.edge.port,
        request("POST", AUTH_REQUESTS, headers, signed.body),
        scene.w.client_context(scene.honest.holder),
    )
    assert tried.answer.status == 200
    assert tried.answer.header("content-type") == "application/jwt"
    assert claims_of(tried.answer.body.decode())["cnf"] == {"x5h": scene.honest.holder.fingerprint}
    (seen,) = (one for one in parse_requests(bytes(scene.w.relay.seen[before:])) if one.target == AUTH_REQUESTS)
    assert not {"cookie", "accept-encoding"} & seen.headers.keys()
    assert seen.body == signed.body
    assert seen.headers["authorization"] == ("Bearer the-tenant-token",)


async def test_websockets_too(scene: Scene) -> None:
    url = f"https://127.0.0.1:{scene.w.edge.port}"
    device_id = scene.w.mender_device({"mac": "honest"}).id
    context = scene.w.client_context(scene.honest.holder)
    async with connected_device(url, scene.honest.bound, tls=context, server_hostname="my-server.com"):
        await eventually(lambda: scene.w.lab.connected(device_id))
        async with scene.w.lab.session(device_id) as session:
            await session.open()
            await session.start_shell()
            await session.type(b"hello")
            assert await session.output_until(b"hello") == b"hello"
    await eventually(lambda: not scene.w.lab.connected(device_id))  # its last frames have passed the relay
    assert scene.w.relay.headers_of(CONNECT)[-1]["authorization"] == [f"Bearer {scene.honest.raw}"]


@pytest.mark.parametrize("shown", [STOLEN["nothing"], STOLEN["a cookie"], *list(STOLEN.values())[3:12]])
async def test_no_websocket_with_anything_else(scene: Scene, shown: Shown) -> None:
    headers = [*UPGRADE, *shown(scene)]
    answer, seen, _ = await scene.ask(scene.hostile, headers, method="GET", target=CONNECT, body=b"")
    _assert_refused(answer, seen)


async def test_a_simulated_device_with_a_copied_token_ends_up_as_itself(scene: Scene) -> None:
    """As any client does on 401: it authenticates anew, and that is with its own certificate."""
    async with scene.w.device(scene.hostile.holder, {"mac": "hostile"}) as device:
        device._live.token = scene.honest.bound
        with pytest.raises(RefusedError, match="401"):
            async with device.connect():
                pass
        await device.send_inventory({"who": "hostile"})
    assert scene.w.mender_device({"mac": "hostile"}).inventory["who"] == "hostile"
    assert "who" not in scene.w.mender_device({"mac": "honest"}).inventory
