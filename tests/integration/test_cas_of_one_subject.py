"""CAs of one subject that Envoy cannot tell apart would lock half the devices out: they are refused at the start."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from mtls_ambassador.admission.anchor import find_anchors
from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.material import load_material
from tests.certificates import CertificateAuthority, Holder, Issuer, seed_pki
from tests.raw_device import RawDevice
from tests.world import edge_settings, eventually, world


async def outcomes(directory: Path, bundle: bytes, devices: tuple[Holder, Holder]) -> list[int]:
    """What becomes of one device of each CA, with our own judgement taken away: HTTP status, 0 where TLS refuses it."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtls_ambassador.config.material.judge_bundle", lambda *_: [])
        async with world(directory, bundle=bundle) as w:
            for holder in devices:
                try:
                    found.append((await RawDevice(w, holder=holder).authenticate()).status)
                except OSError:
                    found.append(0)
            if 0 in found:
                await eventually(lambda: w.log_lines("reason=bad_certificate_signature"))
    return found


async def assert_refused(directory: Path, bundle: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"two CAs of the subject .* with different keys"):
        async with world(directory, bundle=bundle):
            pytest.fail("it started")


@pytest.mark.parametrize("identified", [(False, False), (True, False), (False, True)], ids=str)
async def test_without_key_identifiers(tmp_path: Path, identified: tuple[bool, bool]) -> None:
    """Why they are refused: Envoy takes the first CA of the subject for the devices of either."""
    cas = [CertificateAuthority("My CA", key_identifiers=is_identified) for is_identified in identified]
    first, second = (
        ca.device("dev-1", key_identifiers=is_identified) for ca, is_identified in zip(cas, identified, strict=True)
    )
    bundle = cas[0].pem + cas[1].pem
    assert sorted(await outcomes(tmp_path / "misjudged", bundle, (first, second))) == [0, 200]
    await assert_refused(tmp_path / "refused", bundle)


async def test_with_key_identifiers(tmp_path: Path) -> None:
    """Envoy tells these apart, so they are not refused."""
    cas = [CertificateAuthority("My CA"), CertificateAuthority("My CA")]
    first, second = (ca.device("dev-1") for ca in cas)
    assert await outcomes(tmp_path, cas[0].pem + cas[1].pem, (first, second)) == [200, 200]


@pytest.mark.needs("openssl")
async def test_version_1_cas_of_the_seed_document(tmp_path: Path) -> None:
    """As OpenSSL before 3.2 makes them."""
    one, two = (seed_pki(tmp_path / name) for name in ("one", "two"))
    bundle = one.ca_certificate.read_bytes() + two.ca_certificate.read_bytes()
    if x509.load_pem_x509_certificate(bundle).version is not x509.Version.v1:
        pytest.skip("this openssl makes X.509 v3")
    first, second = (Issuer.load(pki.device_certificate, pki.device_key) for pki in (one, two))
    assert await outcomes(tmp_path / "misjudged", bundle, (first, second)) == [200, 0]
    await assert_refused(tmp_path / "refused", bundle)


@pytest.mark.needs("openssl")
async def test_seed_documents_cas_with_names_of_their_own(tmp_path: Path) -> None:
    """Two anchors, whose devices are told apart."""
    one, two = (seed_pki(tmp_path / name, ca_name=name) for name in ("CA one", "CA two"))
    files = {"server_cert": str(one.server_certificate), "server_key": str(one.server_key), "mender_token": "t"}
    anchors = [{"name": name, "ca": str(pki.ca_certificate)} for name, pki in (("one", one), ("two", two))]
    settings = edge_settings(tmp_path, "http://127.0.0.1:1", files, trust_anchors=anchors)
    found = load_material(settings, dt.datetime.now(dt.UTC))
    for pki, name in ((one, "one"), (two, "two")):
        device = x509.load_pem_x509_certificate(pki.device_certificate.read_bytes())
        assert find_anchors(device, [], found.anchors) == {name}
