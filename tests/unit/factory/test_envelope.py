from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs7 import pkcs7_decrypt_pem

from mtls_ambassador.factory import envelope
from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.pki import authority
from mtls_ambassador.pki.keys import KeyKind, load_private_key


def test_the_recipient_opens_it(tmp_path: Path) -> None:
    made = authority.init(tmp_path, "Recipient", kind=KeyKind.RSA3072)
    recipient = envelope.read_recipient(made.certificate_path)
    sealed = envelope.seal(b"secret", [recipient])
    assert b"secret" not in sealed
    key = load_private_key(made.key_path)
    assert pkcs7_decrypt_pem(sealed, recipient, key, []) == b"secret"  # type: ignore[arg-type]


def test_who_cannot_be_a_recipient(tmp_path: Path) -> None:
    made = authority.init(tmp_path, "Recipient")
    with pytest.raises(BatchError, match="no RSA key"):
        envelope.read_recipient(made.certificate_path)
    with pytest.raises(BatchError, match="no certificate in PEM form"):
        envelope.read_recipient(made.key_path)
    with pytest.raises(BatchError, match="cannot read"):
        envelope.read_recipient(tmp_path / "missing")
