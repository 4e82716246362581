"""What an operator's word names, and what it does not."""

from __future__ import annotations

import datetime as dt

import pytest

from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate

CERTIFICATE = Certificate(
    fingerprint="aa" * 32,
    key="bb" * 32,
    subject="CN=device-1",
    issuer="CN=My CA",
    serial="01",
    anchor="default",
    not_before=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    not_after=dt.datetime(2036, 1, 1, tzinfo=dt.UTC),
)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (AdoptionKind.SUBJECT, CERTIFICATE.subject),
        (AdoptionKind.FINGERPRINT, CERTIFICATE.fingerprint),
        (AdoptionKind.KEY, CERTIFICATE.key),
    ],
)
def test_an_adoption_names_its_certificate(kind: AdoptionKind, value: str) -> None:
    assert Adoption("{}", kind, value).names(CERTIFICATE)


@pytest.mark.parametrize("kind", list(AdoptionKind))
@pytest.mark.parametrize("value", ["", "CN=device-2", "cc" * 32])
def test_an_adoption_names_no_other(kind: AdoptionKind, value: str) -> None:
    assert not Adoption("{}", kind, value).names(CERTIFICATE)


def test_an_empty_value_names_nobody_though_a_subject_may_be_empty() -> None:
    nameless = Certificate(**{name: getattr(CERTIFICATE, name) for name in Certificate.__slots__} | {"subject": ""})
    assert not Adoption("{}", AdoptionKind.SUBJECT, "").names(nameless)
