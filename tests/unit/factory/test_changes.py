from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_ambassador.factory import changes, worker
from mtls_ambassador.factory.orders import Order
from mtls_ambassador.factory.worker import Recipe
from mtls_ambassador.pki import authority, keys, profiles, signer
from mtls_ambassador.pki.profiles import Validity
from mtls_ambassador.pki.request import RequestError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY, OTHER_KEY = keys.generate(keys.KeyKind.P256), keys.generate(keys.KeyKind.P256)

Difference = Callable[[Order, Order], "str | None"]


@pytest.fixture
def difference(tmp_path: Path) -> Difference:
    authority.init(tmp_path, "My CA", now=NOW)
    recipe = Recipe(signer.load(tmp_path, NOW), tmp_path / "out", "out", NOW)
    pattern = profiles.device_pattern(Validity(NOW, 1), recipe.ca)

    def compared(before: Order, now: Order) -> str | None:
        certified, _ = worker.make(recipe, pattern, before)
        entry = worker.entry(recipe, certified)
        return changes.difference(now, certified.item, entry if changes.is_judged_by_certificate(now) else None)

    return compared


def request(path: Path, cn: str, key: keys.PrivateKey = KEY) -> Path:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    path.write_bytes(csr.public_bytes(Encoding.PEM))
    return path


NAMED = Order(3, "line 3", "d3", "d3.example.com", ("IP:192.0.2.3", "DNS:host-3"))


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (NAMED, None),
        (replace(NAMED, line=7, where="line 7", identity="{}"), None),
        (replace(NAMED, san=("DNS:host-3", "IP:192.0.2.3", "DNS:d3.example.com")), None),
        (replace(NAMED, san=("DNS:d3.example.com", "IP:192.0.2.3", "DNS:host-3")), None),
        (replace(NAMED, cn="other"), "the common name d3.example.com, not other"),
        (
            replace(NAMED, san=("IP:192.0.2.3", "DNS:host-4")),
            "the names d3.example.com, 192.0.2.3, host-3, not 192.0.2.3, host-4",
        ),
    ],
)
def test_names(difference: Difference, now: Order, what: str | None) -> None:
    assert difference(NAMED, now) == what


def test_a_common_name_that_is_no_host(difference: Difference) -> None:
    order = replace(NAMED, cn="Gerät 3")
    assert difference(order, order) is None


def test_a_request(difference: Difference, tmp_path: Path) -> None:
    before = Order(1, "a.csr", "a", None, (), "", request(tmp_path / "a.csr", "a"))
    assert difference(before, before) is None
    assert difference(replace(before, cn="x y"), replace(before, cn="x y")) is None
    again = replace(before, request=request(tmp_path / "same.csr", "a"))
    assert difference(before, again) is None
    other = replace(before, request=request(tmp_path / "b.csr", "b"))
    assert difference(before, other) == "the subject CN=a, not CN=b"
    assert difference(replace(before, cn="x"), replace(other, cn="x")) is None, "the request's subject is not used"
    stolen = replace(before, request=request(tmp_path / "c.csr", "a", OTHER_KEY))
    assert difference(before, stolen) == "another key than its request has now"
    (tmp_path / "a.csr").write_bytes(b"nothing")
    with pytest.raises(RequestError):
        difference(again, before)
