"""The admission service speaks HTTP as devices expect it: refusals with reason and id, Mender's answers as they are."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from mtls_ambassador.admission.admit import Admission, Shared
from mtls_ambassador.admission.anchor import Anchors
from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.journal import Journal
from mtls_ambassador.admission.memory import AdmittedLately
from mtls_ambassador.admission.narrator import Narrator
from mtls_ambassador.admission.policy import identity_binding
from mtls_ambassador.admission.rates import AuthRates
from mtls_ambassador.admission.service import Outcomes, Policy, create_app, forwarded_headers
from mtls_ambassador.admission.standing import Rotation, Terms
from mtls_ambassador.config.anchors import SINGLE, Anchor, Credentials
from mtls_ambassador.config.binding import Binding
from mtls_ambassador.config.binding_form import parse_binding
from mtls_ambassador.config.values import Rate
from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.ledger.records import (
    Adoption,
    AdoptionKind,
    Certificate,
    Claim,
    Event,
    EventKind,
    Facts,
)
from mtls_ambassador.ledger.records import Holder as Held
from mtls_ambassador.mender.egress import Answer
from mtls_ambassador.mender.management import Management
from mtls_ambassador.mender.session import PersonalAccessToken
from mtls_ambassador.observe.logging import configure
from mtls_ambassador.tokens.base64url import decode, encode
from mtls_ambassador.tokens.keys import TokenKey
from mtls_ambassador.x509 import spki
from tests.certificates import CertificateAuthority, Holder
from tests.unit.mender.scripted_egress import Clock, ScriptedEgress, Sent, answer

ANCHOR = Anchor(SINGLE, Path("ca.pem"), "tenant_ca_pem", Credentials(None, None, SecretStr("t")), "same-subject", 1)
PATH = "/api/devices/v1/authentication/auth_requests"
CA = CertificateAuthority("My CA")
SERVER = CA.server("my-server.com")
DEVICE = CA.device("dev-1")
NOTHING, DEFAULT = Facts(), Terms()


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure("json", debug=True, stream=stream)
    yield stream
    structlog.reset_defaults()
    configure("text", debug=False)


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Remembers:
    """A ledger that knows this of every claim."""

    known: Facts

    async def facts(self, claim: Claim) -> Facts:
        return self.known


class Service:
    """The application, with a Mender behind it whose auth answers and management answers are given."""

    def __init__(
        self,
        auth: Answer | list[Answer],
        *management: Answer,
        require_same_key: bool = True,
        binding: object = None,
        rate: Rate | None = None,
        address_rate: Rate | None = None,
        token_key: TokenKey | None = None,
        facts: Facts = NOTHING,
        terms: Terms = DEFAULT,
    ) -> None:
        clock = self.clock = Clock()
        self.auth, self.management = auth, list(management)
        self.egress = ScriptedEgress()
        self.egress.always = self._mender
        self.events: list[Event] = []
        journal = Journal([self.events.append], lambda: dt.datetime.now(dt.UTC))
        shared = Shared(AdmittedLately(9, 60, clock), Flights(), Contests(clock), Remembers(facts), journal)
        admission = Admission(Management(self.egress, PersonalAccessToken("t", clock), clock), terms, shared)
        policy = Policy(
            require_same_key=require_same_key,
            server_keys=frozenset({spki(SERVER.key.public_key())}),
            ca_keys=frozenset({spki(CA.key.public_key())}),
            bindings={ANCHOR.name: identity_binding(parse_binding(binding) if binding else Binding())},
            anchors=Anchors((ANCHOR,), {ANCHOR.name: (CA.certificate,)}),
            rates=AuthRates(rate, address_rate, clock),
            token_key=token_key,
        )
        self.outcomes = Outcomes()
        self.app = create_app({ANCHOR.name: admission}, self.egress, policy, self.outcomes, Narrator(), journal)

    @property
    def forwarded(self) -> list[Sent]:
        return [sent for sent in self.egress.sent if sent.path == PATH]

    async def post(self, holder: Holder = DEVICE, *, method: str = "POST", path: str = PATH, **changes: Any) -> Reply:
        """An auth request of `holder`; `changes`: `body`, and headers by name with _ for -, None to leave one out."""
        signed = auth_request(holder.key, {"mac": "a"}, body=changes.pop("body", None))
        headers: dict[str, str | None] = {
            "host": "my-server.com",
            "x-edge-client-cert": quote(holder.pem.decode(), safe=""),
            "x-edge-client-address": "192.0.2.1:4711",
            "x-men-requestid": "r-1",
            **{name.lower(): value for name, value in signed.headers.items()},
            **{name.replace("_", "-"): value for name, value in changes.items()},
        }
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if value is not None]
        return await self._call(method, path, sent, signed.body)

    async def _mender(self, sent: Sent) -> Answer:
        if sent.path != PATH:
            return self.management.pop(0)
        return self.auth.pop(0) if isinstance(self.auth, list) else self.auth

    async def _call(self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
        reply = Reply()
        parts = [body[:500], body[500:]]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status, reply.headers = message["status"], list(message["headers"])
            else:
                reply.body += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
        }
        await self.app(scope, receive, send)
        return reply


TOKEN = answer(200, b"a.b.c", Content_Type="application/jwt", X_Of_Tomorrow="1")


async def test_admits_and_passes_the_answer_on(log: io.StringIO) -> None:
    service = Service(TOKEN, answer(201))
    reply = await service.post()
    assert (reply.status, reply.body) == (200, b"a.b.c")
    assert sorted(reply.headers) == [
        (b"content-length", b"5"),
        (b"content-type", b"application/jwt"),
        (b"x-of-tomorrow", b"1"),
    ]
    assert service.outcomes.counts == {"admitted": 1}
    (line,) = (line for line in map(json.loads, log.getvalue().splitlines()) if line["level"] != "debug")
    assert line["event"] == "admitted 192.0.2.1:4711"
    assert line["identity"] == '{"mac":"a"}'
    assert (line["serial"], line["subject"], line["request_id"]) == (DEVICE.serial, "CN=dev-1", "r-1")


async def test_what_reaches_mender() -> None:
    service = Service(TOKEN, answer(201))
    await service.post(
        connection="keep-alive", te="trailers", x_envoy_internal="1", x_any="1", x_odd="é", expect="100-continue"
    )
    (sent,) = service.forwarded
    assert sent.body == auth_request(DEVICE.key, {"mac": "a"}).body
    assert {name.lower() for name in sent.headers} == {
        "authorization",
        "content-type",
        "x-any",
        "x-men-requestid",
        "x-men-signature",
    }
    assert sent.headers["X-MEN-RequestID"] == "r-1"
    assert [request.headers["X-MEN-RequestID"] for request in service.egress.sent] == ["r-1", "r-1"]


@pytest.mark.parametrize("given", [None, "", "two words", "é", "x" * 129, "a\x7f"])
async def test_request_id_that_is_none_is_replaced(given: str | None) -> None:
    service = Service(TOKEN, answer(201))
    await service.post(x_men_requestid=given)
    (sent,) = service.forwarded
    assert len(sent.headers["X-MEN-RequestID"]) == 36


ODD_KEY = CA.device("other")


@pytest.mark.parametrize(
    ("holder", "changes", "status", "reason"),
    [
        (DEVICE, {"x_edge_client_cert": None}, 403, "certificate_unreadable"),
        (DEVICE, {"x_edge_client_cert": "x"}, 403, "certificate_unreadable"),
        (SERVER, {}, 403, "server_certificate"),
        (CA, {}, 403, "ca_certificate"),
        (DEVICE, {"body": b"x" * 65537}, 413, "body_too_large"),
        (DEVICE, {"body": b"{}"}, 400, "malformed_request"),
        (DEVICE, {"content_type": None}, 400, "malformed_request"),
        (DEVICE, {"content_type": "text/plain"}, 415, "unsupported_media_type"),
        (DEVICE, {"x_men_signature": None}, 400, "missing_signature"),
        (DEVICE, {"x_men_signature": "AAAA"}, 401, "bad_signature"),
        (DEVICE, {"x_edge_client_cert": quote(ODD_KEY.pem.decode())}, 401, "key_mismatch"),
    ],
)
async def test_refusals_before_mender_hears_of_it(
    log: io.StringIO, holder: Holder, changes: dict[str, Any], status: int, reason: str
) -> None:
    service = Service(TOKEN)
    reply = await service.post(holder, **changes)
    assert (reply.status, reply.json["reason"], reply.json["request_id"]) == (status, reason, "r-1")
    assert reply.json.keys() == {"error", "reason", "request_id"}
    assert reply.header(b"content-type") == b"application/json; charset=utf-8"
    assert reply.header(b"x-men-requestid") == b"r-1"
    assert service.egress.sent == []
    assert service.outcomes.counts == {reason: 1}
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["level"], line["reason"], line["status"]) == ("warning", reason, status)
    assert line["remedy"]


CN_IS_MAC = [{"certificate": "subject.CN", "identity": "mac"}]
WHY = "expected subject.CN a, got dev-1 (rule: subject.CN equals mac)"


async def test_a_certificate_that_does_not_match_its_identity_is_refused(log: io.StringIO) -> None:
    service = Service(TOKEN, binding={"mode": "refuse", "rules": CN_IS_MAC})
    reply = await service.post()
    assert (reply.status, reply.json["reason"]) == (401, "identity_mismatch")
    assert "dev-1" not in reply.body.decode()
    assert service.egress.sent == []
    assert service.outcomes.counts == {"identity_mismatch": 1}
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["reason"], line["detail"], line["identity"]) == ("identity_mismatch", WHY, '{"mac":"a"}')


async def test_one_that_matches_is_not(log: io.StringIO) -> None:
    service = Service(TOKEN, answer(201), binding={"rules": CN_IS_MAC})
    holder = CA.device("a", key=DEVICE.key)
    assert (await service.post(holder)).status == 200
    assert service.outcomes.counts == {"admitted": 1}
    assert "binding" not in log.getvalue()


async def test_mode_warn_admits_and_says_so_but_not_each_time(log: io.StringIO) -> None:
    service = Service(TOKEN, answer(201), binding={"mode": "warn", "rules": CN_IS_MAC})
    for _ in range(5):
        assert (await service.post()).status == 200
    assert service.outcomes.counts == {"admitted": 5, "binding_warned": 5}
    lines = [line for line in map(json.loads, log.getvalue().splitlines()) if "would_be" in line]
    assert len(lines) == 3
    assert lines[0]["event"] == (
        "binding mode refuse would refuse 192.0.2.1:4711: "
        "the client's certificate does not match the identity in the auth request"
    )
    assert (lines[0]["level"], lines[0]["would_be"], lines[0]["detail"]) == ("warning", "identity_mismatch", WHY)
    assert (lines[0]["subject"], lines[0]["request_id"]) == ("CN=dev-1", "r-1")


@pytest.mark.parametrize("binding", [None, {"mode": "off", "rules": CN_IS_MAC}])
async def test_without_rules_nothing_is_compared(binding: object) -> None:
    service = Service(TOKEN, answer(201), binding=binding)
    assert (await service.post()).status == 200
    assert service.outcomes.counts == {"admitted": 1}


async def test_separate_key_is_a_setting() -> None:
    service = Service(TOKEN, answer(201), require_same_key=False)
    assert (await service.post(x_edge_client_cert=quote(ODD_KEY.pem.decode()))).status == 200


async def test_refusal_with_a_time_to_wait() -> None:
    service = Service(answer(401, {"error": "dev auth: unauthorized"}), answer(503, b"", Retry_After="7"))
    reply = await service.post()
    assert (reply.status, reply.json["reason"]) == (503, "management_unavailable")
    assert reply.header(b"retry-after") == b"7"


async def test_error_of_mender_is_counted_apart(log: io.StringIO) -> None:
    service = Service(
        answer(500, b"oops", Connection="close", Keep_Alive="5", Transfer_Encoding="chunked"), answer(201)
    )
    reply = await service.post()
    assert (reply.status, reply.body) == (500, b"oops")
    assert reply.headers == [(b"content-length", b"4")]
    assert service.outcomes.counts == {"mender_answer": 1}
    assert "Mender answered 500 to the auth request of 192.0.2.1:4711" in log.getvalue()


async def test_a_fault_of_ours_admits_nobody_and_tells_nothing(log: io.StringIO) -> None:
    service = Service(TOKEN)  # which has no answer to the management call
    reply = await service.post()
    assert (reply.status, reply.json) == (500, {"error": "internal error", "request_id": "r-1"})
    assert service.outcomes.counts == {"internal_error": 1}
    assert "met a fault in the edge" in log.getvalue()
    assert service.forwarded == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_only_auth_requests(method: str) -> None:
    service = Service(TOKEN)
    assert (await service.post(method=method)).status == 404
    assert (await service.post(path="/elsewhere")).status == 404
    assert service.egress.sent == []


async def test_logs_hold_no_secret(log: io.StringIO) -> None:
    service = Service(TOKEN, answer(201))
    signed = auth_request(DEVICE.key, {"mac": "a"}, "tenant-secret")
    await service.post(body=signed.body, authorization="Bearer tenant-secret")
    await service.post(body=b'{"tenant_token":"tenant-secret"}')
    for secret in ("tenant-secret", "a.b.c", signed.headers["X-MEN-Signature"]):
        assert secret not in log.getvalue()


def test_repeated_headers_stay_repeated() -> None:
    found = forwarded_headers([(b"X-A", b"1"), (b"x-a", b"2"), (b"Host", b"h"), (b"X-Edge-Foo", b"3"), (b"TE", b"4")])
    assert list(found.items()) == [("X-A", "1"), ("x-a", "2")]


async def test_a_certificate_beyond_its_rate_is_told_when_to_come_again(log: io.StringIO) -> None:
    service = Service(TOKEN, answer(201), rate=Rate(2, "m"))
    assert [(await service.post()).status for _ in range(2)] == [200, 200]
    for _ in range(10):
        reply = await service.post(body=b"not looked at")
        assert (reply.status, reply.json["reason"]) == (429, "rate_limited")
        assert reply.header(b"retry-after") == b"30"
    assert len(service.forwarded) == 2
    assert service.outcomes.counts == {"admitted": 2, "rate_limited": 10}
    lines = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("reason") == "rate_limited"]
    assert len(lines) == 10
    assert lines[0]["detail"] == "more than auth_rate_per_certificate"
    service.clock.now += 30
    assert (await service.post()).status == 200


async def test_an_address_beyond_its_rate_is_refused_before_its_certificate_is_read() -> None:
    service = Service(TOKEN, answer(201), address_rate=Rate(1, "h"))
    assert (await service.post()).status == 200
    reply = await service.post(x_edge_client_cert="nonsense")
    assert (reply.status, reply.json["reason"]) == (429, "rate_limited")
    assert reply.header(b"retry-after") == b"3600"
    assert (await service.post(x_edge_client_address="192.0.2.2:1")).status == 200


async def test_what_a_device_presented_does_not_reach_mender() -> None:
    service = Service(TOKEN, answer(201))
    await service.post(x_edge_client_chain="x")
    (sent,) = service.forwarded
    assert not [name for name in sent.headers if name.lower().startswith("x-edge-")]


KEY = TokenKey.of(ec.derive_private_key(1, ec.SECP256R1()))
MENDERS = f"a.{encode(json.dumps({'exp': 1_800_000_000}).encode())}.c".encode()


async def test_a_bound_token_takes_the_place_of_menders(log: io.StringIO) -> None:
    service = Service(
        answer(200, MENDERS, Content_Type="application/jwt", X_Of_Tomorrow="1"), answer(201), token_key=KEY
    )
    reply = await service.post()
    claims = json.loads(decode(reply.body.split(b".")[1].decode()))
    assert claims["cnf"] == {"x5h": DEVICE.fingerprint}
    assert claims["mtk"] == MENDERS.decode()
    assert sorted(reply.headers) == [
        (b"content-length", str(len(reply.body)).encode()),
        (b"content-type", b"application/jwt"),
        (b"x-of-tomorrow", b"1"),
    ]
    assert service.outcomes.counts == {"admitted": 1}
    assert reply.body.decode() not in log.getvalue()


async def test_other_answers_pass_as_they_are() -> None:
    service = Service(answer(400, b'{"error": "x"}'), answer(201), token_key=KEY)
    reply = await service.post()
    assert (reply.status, reply.body) == (400, b'{"error": "x"}')


async def test_what_cannot_be_bound_is_not_handed_out(log: io.StringIO) -> None:
    service = Service(answer(200, b"a-secret-of-mender"), answer(201), token_key=KEY)
    reply = await service.post()
    assert (reply.status, reply.json["reason"]) == (502, "token_not_bindable")
    assert service.outcomes.counts == {"token_not_bindable": 1}
    assert "Mender's answer is no JWT" in log.getvalue()
    assert "a-secret-of-mender" not in log.getvalue()
    assert b"a-secret-of-mender" not in reply.body


REFUSED, ADMITTED = EventKind.REFUSED, EventKind.ADMITTED
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
BEFORE = Certificate("ee" * 32, "ff" * 32, "CN=dev-1", "CN=My CA", "02", SINGLE, LONG_AGO, LONG_AGO)
STRANGER = replace(BEFORE, subject="CN=dev-2")
UNAUTHORIZED = answer(401, {"error": "dev auth: unauthorized"})
TOKEN_OF_D1 = answer(200, b"e30.eyJzdWIiOiJkLTEifQ.x")  # {"sub":"d-1"}
KNOWN_AS_D1 = answer(409, {"id": "d-1"})
OPERATORS_WORD = Adoption('{"mac":"a"}', AdoptionKind.SUBJECT, "CN=dev-1")
UNHELD = "no certificate was admitted with this identity so far"


def held_by(certificate: Certificate, mender_id: str = "d-1") -> Facts:
    return Facts(holder=Held(certificate, mender_id, LONG_AGO))


def found(own: str, other: str | None = None) -> Answer:
    """What Mender shows of the device."""
    sets = [(DEVICE, own), *([(SERVER, other)] if other else [])]
    return answer(
        200,
        {
            "id": "d-1",
            "auth_sets": [
                {"id": status, "pubkey": holder.public_key_pem.decode(), "status": status} for holder, status in sets
            ],
        },
    )


Entry = tuple[EventKind, str | None, str | None, int | None]


@pytest.mark.parametrize(
    ("service", "entries"),
    [
        (Service(TOKEN, answer(201)), [(EventKind.PREAUTHORISED, None, UNHELD, 201), (ADMITTED, None, UNHELD, 200)]),
        (
            Service([UNAUTHORIZED, TOKEN], KNOWN_AS_D1, found("pending"), answer(204)),
            [(EventKind.ACCEPTED, None, UNHELD, 204), (ADMITTED, None, UNHELD, 200)],
        ),
        (
            Service(
                [UNAUTHORIZED, TOKEN], KNOWN_AS_D1, found("pending", "accepted"), answer(204), facts=held_by(BEFORE)
            ),
            [
                (EventKind.ROTATED, None, "rotation: same-subject", 204),
                (ADMITTED, None, "rotation: same-subject", 200),
            ],
        ),
        (
            Service(
                [UNAUTHORIZED, TOKEN],
                KNOWN_AS_D1,
                found("pending", "accepted"),
                answer(204),
                facts=Facts(adoption=OPERATORS_WORD),
            ),
            [
                (EventKind.ADOPTED, None, "adopted by subject CN=dev-1", 204),
                (ADMITTED, None, "adopted by subject CN=dev-1", 200),
            ],
        ),
        (
            Service(TOKEN_OF_D1, answer(201), facts=held_by(BEFORE, "formerly")),
            [
                (EventKind.PREAUTHORISED, None, "rotation: same-subject", 201),
                (EventKind.READMITTED, None, "rotation: same-subject", 200),
                (ADMITTED, None, "rotation: same-subject", 200),
            ],
        ),
        (
            Service(TOKEN, answer(201), binding={"mode": "warn", "rules": CN_IS_MAC}),
            [
                (EventKind.WARNED, None, "subject.CN equals mac", None),
                (EventKind.PREAUTHORISED, None, UNHELD, 201),
                (ADMITTED, None, UNHELD, 200),
            ],
        ),
        (
            Service(answer(500), answer(201)),
            [(EventKind.PREAUTHORISED, None, UNHELD, 201), (EventKind.ANSWERED, None, None, 500)],
        ),
        (
            Service(TOKEN, binding={"mode": "refuse", "rules": CN_IS_MAC}),
            [(REFUSED, "identity_mismatch", "subject.CN equals mac", None)],
        ),
        (
            Service(TOKEN, facts=Facts(other_identities=('{"mac":"b"}',))),
            [(REFUSED, "certificate_has_another_identity", "identities_per_certificate: 1", None)],
        ),
        (
            Service(UNAUTHORIZED, found("pending", "accepted"), facts=held_by(STRANGER)),
            [(REFUSED, "key_change_needs_approval", "rotation: same-subject", 401)],
        ),
        (
            Service(UNAUTHORIZED, found("pending", "accepted"), facts=held_by(BEFORE), terms=Terms(Rotation.NEVER)),
            [(REFUSED, "key_change_needs_approval", "rotation: never", 401)],
        ),
        (
            Service(UNAUTHORIZED, KNOWN_AS_D1, found("pending", "accepted")),
            [(REFUSED, "key_change_needs_approval", "rotation: same-subject", 401)],
        ),
        (
            Service(UNAUTHORIZED, found("pending"), facts=Facts(adoption=replace(OPERATORS_WORD, value="CN=x"))),
            [(REFUSED, "key_change_needs_approval", "adopted by subject CN=x", 401)],
        ),
        (
            Service(UNAUTHORIZED, KNOWN_AS_D1, found("pending", "rejected")),
            [(REFUSED, "rejected_by_operator", None, 401)],
        ),
        (Service(UNAUTHORIZED, KNOWN_AS_D1, found("rejected", "accepted")), [(REFUSED, "key_superseded", None, 401)]),
        (Service(UNAUTHORIZED, KNOWN_AS_D1, found("accepted")), [(REFUSED, "mender_refused", None, 401)]),
        (
            Service(UNAUTHORIZED, answer(503)),
            [(REFUSED, "management_unavailable", None, 401)],
        ),
        (
            Service(answer(200, b"no token"), answer(201), token_key=KEY),
            [
                (EventKind.PREAUTHORISED, None, UNHELD, 201),
                (ADMITTED, None, UNHELD, 200),
                (REFUSED, "token_not_bindable", None, 200),
            ],
        ),
    ],
    ids=lambda value: ", ".join(entry[1] or entry[0] for entry in value) if isinstance(value, list) else "",
)
async def test_what_is_remembered_says_whose_it_was_what_decided_and_what_mender_said(
    service: Service, entries: list[Entry]
) -> None:
    await service.post()
    told = [(event.kind, event.reason, event.rule, event.mender_status) for event in service.events]
    assert told == entries
    for event in service.events:
        assert (event.request_id, event.address, event.identity) == ("r-1", "192.0.2.1:4711", '{"mac":"a"}')
        assert event.at.tzinfo is not None
        assert event.certificate is not None
        assert event.certificate.serial == DEVICE.serial
        assert event.certificate.anchor == SINGLE


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "auth_rate_per_certificate"),
        ({"x_edge_client_cert": quote(ODD_KEY.pem.decode())}, "require_same_key: true"),
    ],
)
async def test_a_setting_that_refuses_before_mender_is_asked_is_the_rule(changes: dict[str, Any], rule: str) -> None:
    service = Service(TOKEN, answer(201), rate=Rate(1, "h"))
    await service.post()
    await service.post(**changes)
    assert (service.events[-1].rule, service.events[-1].mender_status) == (rule, None)
