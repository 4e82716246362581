"""Every odd certificate of tests/odd_certificates.py meets the real edge, which does what the reference page says.

One edge trusts the authorities of all of them at once. Each certificate shows itself on TLS 1.2 and 1.3, with a rightly
signed auth request: it is accepted by Mender, or refused in the handshake, by Envoy, or at the auth request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import Attempt, attempt, lines_about, log_field, request
from tests.certificates import CertificateAuthority, PrivateKey
from tests.odd_certificates import ACCEPTED, NOT_SHOWN, NOT_STARTED, ODD_CERTIFICATES, Odd, Presented, pem
from tests.world import World, eventually, world

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # What cryptography warns of is what is odd; the edge in this process reads it too.
    pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
]

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SHOWN = [odd for odd in ODD_CERTIFICATES if odd.verdict not in {NOT_SHOWN, NOT_STARTED}]
# TLS 1.3 tells the client which kinds of signature the edge takes, so that it does not show the certificate at all.
NOT_EVEN_SHOWN = {("p224", "1.3"), ("secp256k1", "1.3")}


@dataclass(frozen=True)
class Judged:
    """The edge, and what became of each certificate on each version."""

    world: World
    attempts: dict[tuple[str, str], Attempt]


def client(presented: Presented, file: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL does not load short keys and old hashes
    file.write_bytes(presented.chain_pem + presented.key)
    context.load_cert_chain(file)
    return context


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def judged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Judged]:
    directory = tmp_path_factory.mktemp("world")
    built = {odd.name: odd.build() for odd in SHOWN}
    ca = CertificateAuthority("My CA")
    bundle = ca.pem + b"".join(pem(anchor) for presented in built.values() for anchor in presented.anchors)
    async with world(directory, ca=ca, bundle=bundle, identities_per_certificate="unlimited") as w:
        few = asyncio.Semaphore(16)

        async def judge(name: str, version: str) -> Attempt:
            key = load_pem_private_key(built[name].key, None)
            data = request("GET", "/status")
            if isinstance(key, PrivateKey):
                signed = auth_request(key, {"mac": f"{name} {version}"})
                data = request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body)
            async with few:
                context = client(built[name], directory / f"{name} {version}.pem", VERSIONS[version])
                return await attempt(w.edge.port, data, context)

        cases = [(odd.name, version) for odd in SHOWN for version in VERSIONS]
        attempts = dict(zip(cases, await asyncio.gather(*(judge(*case) for case in cases)), strict=True))
        yield Judged(w, attempts)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("odd", SHOWN, ids=lambda odd: odd.name)
async def test_the_verdict_is_the_documented_one(judged: Judged, odd: Odd, version: str) -> None:
    tried = judged.attempts[odd.name, version]
    if odd.verdict == ACCEPTED:
        assert tried.answer.status == 200
        assert judged.world.mender_device({"mac": f"{odd.name} {version}"}).status == "accepted"
        return
    assert not tried.data or tried.answer.status == 403
    await eventually(lambda: lines_about(judged.world.log_text(), tried.address))
    lines = lines_about(judged.world.log_text(), tried.address)  # of another that had the port before, too
    expected = "no_certificate" if (odd.name, version) in NOT_EVEN_SHOWN else odd.verdict
    assert expected in [log_field(line, "reason") for line in lines], lines


@pytest.mark.parametrize("odd", [odd for odd in ODD_CERTIFICATES if odd.verdict == NOT_SHOWN], ids=lambda odd: odd.name)
async def test_what_openssl_does_not_load_cannot_be_shown(odd: Odd, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        client(odd.build(), tmp_path / "file.pem", ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    "odd", [odd for odd in ODD_CERTIFICATES if odd.verdict == NOT_STARTED], ids=lambda odd: odd.name
)
async def test_what_must_not_be_in_the_bundle(odd: Odd, tmp_path: Path) -> None:
    bundle = b"".join(pem(anchor) for anchor in odd.build().anchors)
    with pytest.raises(ConfigurationError, match=r"is not a CA certificate|holds two CAs of the subject"):
        async with world(tmp_path, bundle=bundle):
            pass
