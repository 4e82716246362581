"""`x509`: keys and certificates are named as openssl and Envoy name them."""

from __future__ import annotations

import hashlib
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from mtls_ambassador.x509 import fingerprint, spki
from tests.certificates import CertificateAuthority, Holder

CA = CertificateAuthority("My CA")


@pytest.mark.parametrize("kind", ["p256", "rsa2048", "ed25519"])
def test_a_key_is_the_same_wherever_it_was_read(kind: str) -> None:
    device: Holder = CA.device("dev-1", key=kind)  # type: ignore[arg-type]
    der = spki(device.certificate.public_key())
    assert der == spki(load_pem_public_key(device.public_key_pem)) == spki(load_der_public_key(der))
    assert der != spki(CA.certificate.public_key())


def test_fingerprint_as_envoy_writes_it() -> None:
    der = ssl.PEM_cert_to_DER_cert(CA.pem.decode())
    assert fingerprint(CA.certificate) == hashlib.sha256(der).hexdigest()
