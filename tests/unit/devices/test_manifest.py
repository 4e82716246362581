"""Manifests as people write them: every spelling, and every fault with its line."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization

from mtls_ambassador.devices.manifest import read_manifest
from mtls_ambassador.devices.rows import Entry, ManifestError
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from mtls_ambassador.x509 import spki
from tests.certificates import CertificateAuthority

A = "ab" * 32
COLONS = ":".join(["AB"] * 32)
ONE = '{"mac":"52:54:00:12:34:56"}'


def read(text: str) -> tuple[list[tuple[int, Adoption]], list[str]]:
    """Line and adoption of each good line, and what is wrong with the others."""
    found = list(read_manifest(text.splitlines(keepends=True)))
    good = [(item.line, item.claim) for item in found if isinstance(item, Entry)]
    return good, [item.what for item in found if isinstance(item, ManifestError)]


@pytest.mark.parametrize(
    "line",
    [
        f"mac=52:54:00:12:34:56,{A}",
        f'"{{""mac"":""52:54:00:12:34:56""}}",{A}',
        f'"{{ ""mac"" : ""52:54:00:12:34:56"" }}",{COLONS}',
        f"mac=52:54:00:12:34:56,{A.upper()}",
        f"mac=52:54:00:12:34:56,sha256:{A}",
        f"mac=52:54:00:12:34:56,sha256 Fingerprint={COLONS}",
    ],
)
def test_spellings(line: str) -> None:
    assert read(f"\ufeffIdentity,Fingerprint\r\n{line}\r\n") == (
        [(2, Adoption(ONE, AdoptionKind.FINGERPRINT, A))],
        [],
    )


def test_the_guides_own_example() -> None:
    text = (
        'identity,subject\n"{""mac"":""52:54:00:12:34:56""}","CN=my-device-001"\n'
        'mac=52:54:00:12:34:57,CN=my-device-002\nmac=3,"O=My Org,CN=a\\,b"\n'
    )
    good, bad = read(text)
    assert not bad
    assert [(adoption.identity, adoption.value) for _, adoption in good] == [
        (ONE, "CN=my-device-001"),
        ('{"mac":"52:54:00:12:34:57"}', "CN=my-device-002"),
        ('{"mac":"3"}', "O=My Org,CN=a\\,b"),
    ]


def test_json_lines_and_a_list() -> None:
    lines = [
        json.dumps({"identity": {"b": 1, "a": "x"}, "key": A}),
        json.dumps({"identity": "mac=1", "subject": "CN=q"}),
    ]
    wanted = [
        (1, Adoption('{"a":"x","b":1}', AdoptionKind.KEY, A)),
        (2, Adoption('{"mac":"1"}', AdoptionKind.SUBJECT, "CN=q")),
    ]
    assert read("\n".join(lines)) == (wanted, [])
    assert read("[" + ",\n".join(lines) + "]\n") == (wanted, [])


def test_a_key_in_pem() -> None:
    key = CertificateAuthority("My CA").device("a").certificate.public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    ((_, adoption),), _ = read(json.dumps({"identity": "mac=1", "key": pem}))
    assert (adoption.kind, adoption.value) == (AdoptionKind.KEY, hashlib.sha256(spki(key)).hexdigest())


def test_the_manifest_of_a_batch_names_more_than_is_needed() -> None:
    good, bad = read(
        f"cn,serial,fingerprint,public key,identity\ndev-1,0a,{'cd' * 32},{A},mac=1\ndev-2,0b,{'cd' * 32},,mac=2\n"
    )
    assert [(adoption.kind, adoption.value) for _, adoption in good] == [("key", A), ("fingerprint", "cd" * 32)]
    assert not bad


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("mac=1", "line 3: it has 1 fields, and the header 2"),
        (f"mac=1,{A},x", "line 3: it has 3 fields"),
        (f'"mac=1,{A}', "line 3: its quotes do not fit"),
        (f",{A}", "line 3: it has no identity"),
        ("mac=1,", "line 3: it names no certificate"),
        (f"mac,{A}", "line 3: its identity is neither JSON nor name=value"),
        (f"=1,{A}", "line 3: its identity is neither"),
        (f'"{{""mac"":""1"",""mac"":""2""}}",{A}', "line 3: its identity cannot be read: a name stands twice"),
        (f"{{}},{A}", "line 3: its identity cannot be read: it is empty"),
        ("mac=1,abc", "line 3: its fingerprint is not a SHA-256 of 64 hex digits"),
        (f"mac=1,{A}0", "line 3: its fingerprint is not"),
        (f"mac=0,{'cd' * 32}", "line 3: its identity is on line 2 with another certificate"),
        (f"mac=1,{'ee' * 32}", "line 3: its fingerprint is on line 2 with another identity"),
        (f"mac=\udcff,{A}", "line 3: it holds what is no text"),
        ("x" * 70000, "line 3: it is longer than"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(line: str, fault: str) -> None:
    good, (told,) = read(f"identity,fingerprint\nmac=0,{'ee' * 32}\n{line}\n\nmac=0,{'ee' * 32}\nmac=9,{'99' * 32}\n")
    assert told.startswith(fault), told
    assert [number for number, _ in good] == [2, 6]


@pytest.mark.parametrize("line", ["[1]", "{", '"x"', '{"identity":"mac=1"}', '{"identity":"mac=1","key":7}'])
def test_a_bad_line_of_json(line: str) -> None:
    good, (told,) = read(f'{{"identity":"mac=0","key":"{A}"}}\n{line}\n')
    assert told.startswith("line 2: ")
    assert len(good) == 1


@pytest.mark.parametrize("subject", ["my-device", "CN = a", "", "/CN=a", "CN=a,,O=b"])
def test_a_subject_that_is_none(subject: str) -> None:
    good, told = read(f'identity,subject\nmac=1,"{subject}"\n')
    assert not good
    assert len(told) == 1


@pytest.mark.parametrize("text", ["", "\n\n", "mac,cn\n", "identity\n", "identity,cn,serial\nmac=1,a,0b\n"])
def test_no_manifest(text: str) -> None:
    with pytest.raises(ManifestError):
        read(text)
