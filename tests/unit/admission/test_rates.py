"""`admission.rates`: so many auth requests of one certificate, so many of one address."""

from __future__ import annotations

import pytest

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.rates import AuthRates
from mtls_ambassador.config.values import Rate
from mtls_ambassador.refusals import RefusalReason
from tests.unit.mender.scripted_egress import Clock


def test_a_certificate_has_its_own_limit() -> None:
    clock = Clock()
    rates = AuthRates(Rate(2, "m"), None, clock)
    for _ in range(2):
        rates.require_certificate("a")
    with pytest.raises(Refused) as caught:
        rates.require_certificate("a")
    assert caught.value.reason is RefusalReason.RATE_LIMITED
    assert caught.value.retry_after == 30.0
    assert caught.value.detail == "more than auth_rate_per_certificate"
    rates.require_certificate("b")
    clock.now += 30
    rates.require_certificate("a")


def test_an_address_has_its_own_limit() -> None:
    rates = AuthRates(None, Rate(1, "h"), Clock())
    rates.require_address("192.0.2.1:1000")
    rates.require_address("192.0.2.2:1000")
    with pytest.raises(Refused) as caught:
        rates.require_address("192.0.2.1:2000")
    assert caught.value.retry_after == 3600.0
    assert caught.value.detail == "more than auth_rate_per_address"


def test_no_limit() -> None:
    rates = AuthRates(None, None, Clock())
    for _ in range(1000):
        rates.require_certificate("a")
        rates.require_address("192.0.2.1:1000")
