"""Answers are lines of ASCII."""

from __future__ import annotations

import json

from mtls_ambassador.devices.answers import line, of_adoption, of_certificate
from tests.unit.devices.examples import A


def test_a_line_is_one_line_of_ascii() -> None:
    text = line({"identity": "a\nb\x1b[2J\u202e\udcff"})
    assert text.isascii()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    assert json.loads(text) == {"identity": "a\nb\x1b[2J\u202e\udcff"}


def test_what_is_not_there() -> None:
    assert of_certificate(None) is None
    assert of_adoption(None) is None


def test_a_certificate_has_the_names_of_the_audit_log() -> None:
    told = of_certificate(A)
    assert told is not None
    assert (told["sha256"], told["key_sha256"], told["not_before"]) == (
        A.fingerprint,
        A.key,
        "2026-01-01T00:00:00+00:00",
    )
