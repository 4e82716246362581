"""A client whose certificate is no device's never gets past the handshake, and one readable log line says who and why.

For each odd certificate, on TLS 1.2 and 1.3: no HTTP answer, nothing for Mender, and exactly one line with the
client's address, the reason's label and, where it showed a certificate, that one's serial number and subject.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.attempts import Attempt, attempt, log_field, request
from tests.certificates import ODD_CLIENT_CERTIFICATES, Holder
from tests.world import World, eventually, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

REASONS = {
    "no_certificate": "no_certificate",
    "self_signed": "self_signed",
    "unknown_ca": "unknown_ca",
    "unknown_ca_of_the_same_name": "unknown_ca",
    "unknown_ca_presented": "unknown_ca",
    "intermediate_not_presented": "unknown_ca",
    "expired": "expired",
    "expired_intermediate": "issuer_expired",
    "not_yet_valid": "not_yet_valid",
    "not_yet_valid_intermediate": "issuer_not_yet_valid",
    "server_auth_only": "wrong_purpose",
    "any_purpose_only": "wrong_purpose",
    "no_digital_signature": "wrong_purpose",
    "forged": "bad_certificate_signature",
    "issued_by_a_leaf": "unknown_ca",
    "issuer_without_key_cert_sign": "unknown_ca",
    "unknown_critical_extension": "critical_extension",
    "server": "wrong_purpose",
    "ca_itself": "wrong_purpose",
}
# BoringSSL looks at the key usage before it keeps the certificate, so there is nothing that Envoy could tell of it.
NOT_KEPT = {("no_digital_signature", "1.3"), ("ca_itself", "1.3")}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class Refused:
    """The edge, and what became of each certificate on each version."""

    world: World
    tried: dict[tuple[str, str], tuple[Holder | None, Attempt]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def refused(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Refused]:
    """All of them at once, since Envoy hands its log lines over in batches."""
    async with world(tmp_path_factory.mktemp("world")) as w:
        holders = {odd.name: odd.build(w.ca) for odd in ODD_CLIENT_CERTIFICATES if odd.reason is not None}
        assert REASONS.keys() == holders.keys()
        cases = [(name, version) for name in holders for version in VERSIONS]
        asked = request("GET", "/api/devices/v1/inventory/device/attributes")
        attempts = await asyncio.gather(
            *(
                attempt(w.edge.port, asked, w.client_context(holders[name], version=VERSIONS[version]))
                for name, version in cases
            )
        )
        await eventually(lambda: len(w.log_lines("TLS handshake error")) >= len(cases))
        yield Refused(w, {case: (holders[case[0]], tried) for case, tried in zip(cases, attempts, strict=True)})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REASONS)
async def test_the_client_gets_no_answer(refused: Refused, name: str, version: str) -> None:
    _, tried = refused.tried[name, version]
    assert tried.data == b""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REASONS)
async def test_one_line_names_address_reason_serial_and_subject(refused: Refused, name: str, version: str) -> None:
    holder, tried = refused.tried[name, version]
    (line,) = refused.world.log_lines(f"{tried.address}:")
    assert line.split()[1] == "warning"
    assert log_field(line, "reason") == REASONS[name], line
    if holder is None or (name, version) in NOT_KEPT:
        assert log_field(line, "serial") is None
        assert log_field(line, "subject") is None
    else:
        assert log_field(line, "serial") == holder.serial
        assert log_field(line, "subject") == holder.certificate.subject.rfc4514_string()


async def test_mender_hears_of_none(refused: Refused) -> None:
    assert refused.world.relay.device_requests() == []
    assert refused.world.lab.devices() == []
