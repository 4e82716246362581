from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mtls_ambassador.factory import worker
from mtls_ambassador.factory.orders import Order
from mtls_ambassador.factory.worker import Recipe
from mtls_ambassador.pki import authority, entries, profiles, signer
from mtls_ambassador.pki.entries import Kind
from mtls_ambassador.pki.profiles import ProfileError, Validity
from mtls_ambassador.pki.request import RequestError

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ORDER = Order(3, "line 3", "d3", "d3.example.com", ("IP:192.0.2.3",), '{"mac":"3"}')


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    authority.init(tmp_path, "My CA", now=NOW)
    return Recipe(signer.load(tmp_path, NOW), tmp_path / "out", "out", NOW)


def make(recipe: Recipe, order: Order) -> tuple[worker.Certified, dict[str, bytes]]:
    pattern = profiles.device_pattern(Validity(recipe.now, recipe.days), recipe.ca)
    certified, package = worker.make(recipe, pattern, order)
    return certified, {file.name: file.data for file in package.files}


def test_the_certificate_is_as_any_devices(recipe: Recipe) -> None:
    certified, files = make(recipe, ORDER)
    certificate = x509.load_pem_x509_certificate(files["device-cert.pem"])
    certificate.verify_directly_issued_by(recipe.ca.certificate)
    assert files["device-cert.pem"] == recipe.ca.presented_pem(certificate)
    key = load_pem_private_key(files["device-private.key"], None)
    assert key.public_key() == certificate.public_key()
    assert [str(name.value) for name in profiles.names(certificate)] == ["d3.example.com", "192.0.2.3"]
    assert certified.item.identity == '{"mac":"3"}'


def test_the_index_gets_what_it_would_read_from_the_certificate(recipe: Recipe) -> None:
    certified, files = make(recipe, ORDER)
    certificate = x509.load_pem_x509_certificate(files["device-cert.pem"])
    expected = entries.entry(certificate, Kind.DEVICE, "out/d3/device-cert.pem")
    assert worker.entry(recipe, certified) == expected
    archived = entries.entry(certificate, Kind.DEVICE, "out/d3.tar.gz")
    assert worker.entry(replace(recipe, archives=True), certified) == archived


@pytest.mark.parametrize(
    "order", [replace(ORDER, cn="x" * 65), replace(ORDER, san=("IP:none",)), replace(ORDER, cn="")]
)
def test_a_name_that_does_not_fit_is_told(recipe: Recipe, order: Order) -> None:
    with pytest.raises(ProfileError):
        make(recipe, order)


def test_a_damaged_request_is_told(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "bad.csr").write_bytes(b"nothing")
    with pytest.raises(RequestError):
        make(recipe, replace(ORDER, request=tmp_path / "bad.csr"))
