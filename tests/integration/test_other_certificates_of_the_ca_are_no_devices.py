"""The server's and the CA's certificates are good to TLS, yet no device's: they get 403, and a log line says why.

The very certificates that the edge is configured with are refused by Envoy on any path. Those it cannot know, such as
another certificate of the server's key, or an intermediate CA's, are refused at their auth request. What merely has
less in it than usual (no purpose, no subject) is a device.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS, INVENTORY
from tests.attempts import attempt, lines_about, log_field, request
from tests.certificates import ODD_CLIENT_CERTIFICATES, CertificateAuthority, Holder
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ANYTHING = {
    "status": request("GET", "/status"),
    "inventory": request("GET", INVENTORY),
    "elsewhere": request("GET", "/"),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """An edge whose certificates carry no purpose, as those of Mender's own document."""
    ca = CertificateAuthority("My CA", key_usage=None)
    server = ca.server("my-server.com", eku=None)
    async with world(tmp_path_factory.mktemp("world"), ca=ca, server=server) as running:
        yield running


def auth_bytes(holder: Holder, name: str) -> bytes:
    """An auth request, properly signed with the certificate's key."""
    signed = auth_request(holder.key, {"mac": name})
    return request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body)


async def refusal_line(w: World, address: str) -> str:
    """The one line about `address`."""
    await eventually(lambda: lines_about(w.log_text(), address))
    (line,) = lines_about(w.log_text(), address)
    return line


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", [*ANYTHING, "auth request"])
@pytest.mark.parametrize("whose", ["server", "ca"])
async def test_the_configured_certificates_get_403_everywhere(w: World, whose: str, path: str, version: str) -> None:
    holder = {"server": w.server, "ca": w.ca}[whose]
    before = bytes(w.relay.seen).count(b"/api/devices/")
    data = ANYTHING.get(path) or auth_bytes(holder, f"{whose} {path} {version}")
    tried = await attempt(w.edge.port, data, w.client_context(holder, version=VERSIONS[version]))
    assert tried.answer.status == 403
    assert tried.answer.json()["error"] == "this certificate is not a device's"
    assert tried.answer.json()["request_id"]
    line = await refusal_line(w, tried.address)
    assert log_field(line, "reason") == f"{whose}_certificate"
    assert log_field(line, "serial") == holder.serial
    assert log_field(line, "subject") == holder.certificate.subject.rfc4514_string()
    assert bytes(w.relay.seen).count(b"/api/devices/") == before


async def test_each_request_of_an_open_connection_is_refused(w: World) -> None:
    data = request("GET", "/status", [("Connection", "keep-alive")]) + request("GET", INVENTORY)
    tried = await attempt(w.edge.port, data, w.client_context(w.server))
    assert [answer.status for answer in tried.answers] == [403, 403]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("another certificate of the server's key", "server_certificate"),
        ("another certificate of the CA's key", "ca_certificate"),
        ("an unknown intermediate CA", "ca_certificate"),
        ("a leaf that says it is a CA", "ca_certificate"),
    ],
)
async def test_others_of_the_kind_are_refused_at_their_auth_request(w: World, name: str, reason: str) -> None:
    holders: dict[str, Holder] = {
        "another certificate of the server's key": w.ca.device("dev-9", key=w.server.key),
        "another certificate of the CA's key": w.ca.device("dev-9", key=w.ca.key),
        "an unknown intermediate CA": w.ca.intermediate("Line 9", key_usage=None),
        "a leaf that says it is a CA": w.ca.device("dev-9", ca=True),
    }
    holder = holders[name]
    before = len(w.relay.requests())
    tried = await attempt(w.edge.port, auth_bytes(holder, name), w.client_context(holder))
    assert tried.answer.status == 403
    assert tried.answer.json()["reason"] == reason
    assert tried.answer.json()["error"] == "this certificate is not a device's"
    line = await refusal_line(w, tried.address)
    assert log_field(line, "reason") == reason, line
    assert log_field(line, "serial") == holder.serial
    assert log_field(line, "subject") == holder.certificate.subject.rfc4514_string()
    assert len(w.relay.requests()) == before


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["server_without_purpose", "empty_subject"])
async def test_what_merely_lacks_something_is_a_device(w: World, name: str, version: str) -> None:
    (odd,) = [odd for odd in ODD_CLIENT_CERTIFICATES if odd.name == name]
    holder = odd.build(w.ca)
    assert holder is not None
    mac = f"{name} {version}"
    tried = await attempt(w.edge.port, auth_bytes(holder, mac), w.client_context(holder, version=VERSIONS[version]))
    assert tried.answer.status == 200
    assert w.mender_device({"mac": mac}).status == "accepted"
    assert f"serial={holder.serial}" in await refusal_line(w, tried.address)
