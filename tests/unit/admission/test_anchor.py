"""`admission.anchor`: a certificate's signature leads to its anchor, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from pydantic import SecretStr

from mtls_ambassador.admission import anchor
from mtls_ambassador.admission.anchor import Anchors, find_anchors, read_presented
from mtls_ambassador.admission.certificate import read_certificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.config.anchors import Anchor, Credentials
from mtls_ambassador.refusals import RefusalReason
from tests.certificates import CertificateAuthority, Holder, Issuer, KeyKind

ONE, TWO = CertificateAuthority("My CA"), CertificateAuthority("My CA")
FOUND = {"one": [ONE.certificate], "two": [TWO.certificate]}


def encoded(pem: bytes) -> str:
    return quote(pem.decode(), safe="")


def anchors(**found: list[x509.Certificate]) -> Anchors:
    credentials = Credentials(None, None, SecretStr("t"))
    return Anchors([Anchor(name, Path(name), name, credentials, "never", 1) for name in found], found)


def name_of(holder: Holder, among: Anchors) -> str:
    return among.for_certificate(read_certificate(encoded(holder.pem)), encoded(holder.chain_pem)).name


def refusal(holder: Holder, among: Anchors) -> str:
    with pytest.raises(Refused) as caught:
        name_of(holder, among)
    assert caught.value.reason is RefusalReason.ANCHOR_UNKNOWN
    return caught.value.detail


def test_one_anchor_has_them_all() -> None:
    """Envoy verified it: nothing is left to be found out, and nothing is looked at."""
    stranger = CertificateAuthority("Other CA").device("dev-1")
    assert anchors(one=[ONE.certificate]).for_certificate(read_certificate(encoded(stranger.pem)), "").name == "one"


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
def test_the_signature_decides_though_the_names_are_the_same(kind: KeyKind) -> None:
    first, second = CertificateAuthority("My CA", key=kind), CertificateAuthority("My CA")
    among = anchors(one=[first.certificate], two=[second.certificate])
    assert name_of(first.device("dev-1"), among) == "one"
    assert name_of(second.device("dev-1"), among) == "two"


def test_intermediates_lead_there() -> None:
    among = anchors(**FOUND)
    device = ONE.intermediate("Hall").intermediate("Line").device("dev-1")
    assert name_of(device, among) == "one"
    turned = replace(TWO.intermediate("Hall").intermediate("Line").device("dev-1"))
    assert name_of(replace(turned, intermediates=turned.intermediates[::-1]), among) == "two"


def test_a_missing_intermediate_is_told() -> None:
    device = replace(ONE.intermediate("Line 1").device("dev-1"), intermediates=())
    assert refusal(device, anchors(**FOUND)) == "issuer CN=Line 1 leads to no one anchor"


def test_the_nearest_configured_ca_counts() -> None:
    line = ONE.intermediate("Line 1")
    assert find_anchors(
        line.device("dev-1").certificate, [line.certificate], {**FOUND, "line": [line.certificate]}
    ) == {"line"}


def test_what_both_have_certified_is_nobodys() -> None:
    line = ONE.intermediate("Line")
    device = line.device("dev-1")
    crossed = TWO.intermediate("Line", key=line.key).certificate
    among = anchors(**FOUND)
    both = replace(device, intermediates=(line.certificate, crossed))
    assert refusal(both, among).endswith("leads to no one anchor, but to one and two")


@pytest.mark.parametrize(
    "vouching",
    [
        ONE.intermediate("dev-0", ca=False),
        ONE.intermediate("dev-0", ca=None),
        ONE.intermediate("dev-0", key_usage=("digitalSignature",)),
    ],
    ids=["no CA", "not said to be a CA", "may not sign certificates"],
)
def test_a_certificate_that_is_no_ca_vouches_for_nobody(vouching: Issuer) -> None:
    assert "leads to no one anchor" in refusal(vouching.device("dev-1"), anchors(**FOUND))


def test_an_intermediate_without_key_usage_is_a_ca() -> None:
    assert name_of(ONE.intermediate("Line", key_usage=None).device("dev-1"), anchors(**FOUND)) == "one"


def test_a_forged_certificate_is_nobodys() -> None:
    assert "leads to no one anchor" in refusal(ONE.impostor().device("dev-1"), anchors(**FOUND))


def test_the_certificate_itself_must_be_among_what_is_presented() -> None:
    device, other = ONE.device("dev-1"), ONE.device("dev-2")
    with pytest.raises(Refused):
        anchors(**FOUND).for_certificate(read_certificate(encoded(device.pem)), encoded(other.pem))


def test_it_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    among, device = anchors(**FOUND), ONE.device("dev-1")
    assert name_of(device, among) == "one"
    monkeypatch.setattr(anchor, "signed_by", lambda *_: pytest.fail("asked again"))
    assert name_of(device, among) == "one"


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "_REMEMBERED", 2)
    among, devices = anchors(**FOUND), [ONE.device(f"dev-{number}") for number in range(3)]
    for device in devices:
        assert name_of(device, among) == "one"
    assert list(among._known) == [device.fingerprint for device in devices[1:]]


def test_new_cas_make_it_look_again() -> None:
    among, device = anchors(**FOUND), ONE.device("dev-1")
    assert name_of(device, among) == "one"
    among.trust({"one": [TWO.certificate], "two": [ONE.certificate]})
    assert name_of(device, among) == "two"


def test_what_cannot_be_read_is_left_out() -> None:
    device = ONE.device("dev-1")
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert read_presented(encoded(b"x" + broken + device.pem + broken)) == [device.certificate]
    assert read_presented("") == []


def test_a_flood_of_certificates_is_cut() -> None:
    assert len(read_presented(encoded(ONE.pem * 100))) == 16
