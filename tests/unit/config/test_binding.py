"""`config.binding`: what rules are called in logs, and that every field and comparison is described."""

from __future__ import annotations

import pytest

from mtls_ambassador.config.binding import COMPARISONS, FIELDS, Binding, CertificateField, Compare
from mtls_ambassador.config.binding_form import parse_binding


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"certificate": "subject.CN", "identity": "mac"}, "subject.CN equals mac"),
        ({"certificate": "subject.CN", "identity": "mac", "compare": "mac"}, "subject.CN equals mac (compare: mac)"),
        ({"certificate": "san.dns", "template": "{mac}.example"}, "san.dns equals {mac}.example"),
        ({"certificate": "san.uri", "pattern": "u:(?P<id>.*)"}, "san.uri matches u:(?P<id>.*)"),
        (
            {"any": [{"unsafe_any_identity": True}, {"all": [{"certificate": "subject.O", "identity": "a"}] * 2}]},
            "(unsafe_any_identity or (subject.O equals a and subject.O equals a))",
        ),
    ],
)
def test_rules_read_well(rule: object, text: str) -> None:
    assert str(parse_binding({"mode": "warn", "rules": [rule]})) == f"warn: {text}"


def test_nothing_is_bound_by_default() -> None:
    assert str(Binding()) == "off"


def test_everything_is_described() -> None:
    assert set(FIELDS) == set(CertificateField)
    assert set(COMPARISONS) == set(Compare)


def test_what_is_said_of_fields() -> None:
    assert {field for field in CertificateField if field.is_single} == {"serial", "issuer", "key", "fingerprint"}
    assert CertificateField.KEY.hex_digits == CertificateField.FINGERPRINT.hex_digits == 64
    assert CertificateField.SERIAL.hex_digits is None
