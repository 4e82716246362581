"""`pki.show`: everything that is in a file, and never a private key."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.pki import pem, show
from tests.certificates import CertificateAuthority, new_key
from tests.odd_certificates import ODD_CERTIFICATES, Odd
from tests.unit.pki.test_request import csr

CA = CertificateAuthority("My CA")


def shown(data: bytes) -> tuple[dict[str, object], str]:
    (block,) = pem.blocks(data, "file")
    facts = show.describe(block)
    json.dumps(facts)
    return dict(facts), show.text(facts)


def test_a_certificate() -> None:
    server = CA.server("my-server.com", san=["DNS:my-server.com", "IP:192.0.2.1", "URI:urn:x", "email:a@b.c"])
    facts, text = shown(server.pem)
    assert (facts["subject"], facts["issuer"], facts["serial"]) == ("CN=my-server.com", "CN=My CA", server.serial)
    assert facts["fingerprint_sha256"] == server.fingerprint
    for line in (
        "key: EC, secp256r1",
        "signature: ecdsa-with-SHA256",
        "  basicConstraints (critical): CA: FALSE",
        "  keyUsage (critical): digitalSignature",
        "  extendedKeyUsage: serverAuth",
        "  subjectAltName: DNS:my-server.com, IP:192.0.2.1, URI:urn:x, email:a@b.c",
    ):
        assert line in text.splitlines()


def test_a_private_key_is_named_and_not_shown() -> None:
    for kind, words in (("p384", "EC, secp384r1"), ("rsa2048", "RSA, 2048 bits"), ("ed25519", "Ed25519")):
        holder = CA.device("dev-1", key=kind)  # type: ignore[arg-type]
        facts, _ = shown(holder.key_pem)
        assert set(facts) == {"type", "key", "key_sha256"}
        assert facts["key"] == words
        assert facts["key_sha256"] == shown(holder.public_key_pem)[0]["key_sha256"]


def test_a_request_says_whether_its_signature_holds() -> None:
    facts, text = shown(csr(new_key(), "dev-1", extensions=True).public_bytes(Encoding.PEM))
    assert facts["signature_valid"] is True
    assert "  basicConstraints (critical): CA: TRUE" in text


def test_a_long_list_is_cut_for_people_only() -> None:
    facts, text = shown(CA.crl(range(1, 101), number=9))
    assert facts["entries"] == len(facts["revoked"]) == 100  # type: ignore[arg-type]
    assert "  and 80 more" in text
    assert "  cRLNumber: 9" in text


def test_what_is_none_of_ours_is_named() -> None:
    facts, _ = shown(b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
    assert facts == {"type": "other", "label": "EC PARAMETERS"}


@pytest.mark.parametrize("odd", ODD_CERTIFICATES, ids=lambda odd: odd.name)
def test_odd_certificates_are_shown_or_said_to_be_unreadable(odd: Odd) -> None:
    block = pem.Block(pem.Content.CERTIFICATE, "", odd.build().leaf)
    facts = show.describe(block)
    assert "unreadable" in facts or "fingerprint_sha256" in facts
    assert show.text(facts)
