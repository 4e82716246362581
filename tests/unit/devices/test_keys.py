"""Manifests of keys: every way to name one, and every fault with its line."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_ambassador.devices.keys import DeviceKey, read_keys, same_key
from mtls_ambassador.devices.rows import Entry, ManifestError
from mtls_ambassador.x509 import spki
from tests.certificates import CertificateAuthority, new_key

HOLDER = CertificateAuthority("My CA").device("a")
PEM = HOLDER.public_key_pem
SPKI = base64.b64encode(spki(HOLDER.key.public_key())).decode()
OTHER = base64.b64encode(spki(new_key().public_key())).decode()
FILES = {"a.pem": HOLDER.chain_pem, "keys/a.pub": PEM, "a.key": HOLDER.key_pem}


def read_file(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[name]


def read(text: str) -> tuple[list[tuple[int, DeviceKey]], list[str]]:
    """Line and key of each good line, and what is wrong with the others."""
    found = list(read_keys(text.splitlines(keepends=True), read_file))
    good = [(item.line, item.claim) for item in found if isinstance(item, Entry)]
    return good, [item.what for item in found if isinstance(item, ManifestError)]


@pytest.mark.parametrize(
    ("column", "value"), [("spki", SPKI), ("public_key_file", "keys/a.pub"), ("certificate", "a.pem")]
)
def test_ways_to_name_a_key(column: str, value: str) -> None:
    csv = f"Identity,{column}\nmac=1,{value}\n"
    for text, line in ((csv, 2), (json.dumps({"identity": {"mac": "1"}, column: value}), 1)):
        ((number, key),), bad = read(text)
        assert (number, key.attributes, key.pem.encode(), bad) == (line, {"mac": "1"}, PEM, [])
        assert same_key(PEM.decode(), key)


def test_the_key_itself_counts_before_files() -> None:
    ((_, key),), bad = read(f"cn,spki,identity,certificate,key\na,{SPKI},mac=1,gone.pem,gone.key\n")
    assert key.pem.encode() == PEM
    assert not bad


def test_another_key_is_not_the_same() -> None:
    ((_, key),), _ = read(f"identity,spki\nmac=1,{OTHER}\n")
    assert not same_key(PEM.decode(), key)
    assert not same_key("nonsense", key)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("mac=1,,,", "it names no key"),
        (",x,,", "it has no identity"),
        ("mac=1,MFkw,,", "its spki is not the base64"),
        ("mac=1,@@@@,,", "its spki is not the base64"),
        ("mac=1,,gone,", "its public_key_file gone cannot be read: No such file"),
        ("mac=1,,a.pem,", "its public_key_file a.pem is no public key in PEM"),
        ("mac=1,,,a.key", "its certificate a.key is no certificate in PEM"),
        (f"mac=0,{SPKI},,", "its identity is on line 2 with another"),
        (f"mac=1,{OTHER},,", "its key is on line 2 with another identity"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(line: str, fault: str) -> None:
    last = base64.b64encode(spki(new_key().public_key())).decode()
    good, (told,) = read(f"identity,spki,public_key_file,certificate\nmac=0,{OTHER},,\n{line}\nmac=9,{last},,\n")
    assert told.startswith(f"line 3: {fault}"), told
    assert [number for number, _ in good] == [2, 4]


def test_a_key_that_mender_does_not_take() -> None:
    der = x25519.X25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, (told,) = read(f"identity,spki\nmac=0,{base64.b64encode(der).decode()}\n")
    assert "of a kind that Mender does not take" in told


def test_no_header_of_keys() -> None:
    with pytest.raises(ManifestError, match="spki, public_key_file and certificate"):
        read("identity,fingerprint\n")
