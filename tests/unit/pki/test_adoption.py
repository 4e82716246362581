"""`pki.adoption`: a CA of others, with its past. What openssl itself writes: tests/e2e."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_ambassador.files import ExistsError
from mtls_ambassador.pki import adoption, revocation
from mtls_ambassador.pki.adoption import AdoptionError
from mtls_ambassador.pki.entries import Kind, Reason
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.keys import KeyFileError
from mtls_ambassador.pki.revocation import RevocationError
from mtls_ambassador.pki.signer import SignerError
from tests import der
from tests.certificates import CertificateAuthority
from tests.odd_certificates import pem

CA = CertificateAuthority("My CA")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca-cert.pem").write_bytes(CA.pem)
    (tmp_path / "ca-private.key").write_bytes(CA.key_pem)
    return tmp_path


def kinds(directory: Path) -> dict[str, Kind]:
    with Index.open(directory, writable=False) as index:
        return {entry.path: entry.kind for entry in index.entries()}


def test_what_the_ca_issued_is_found_and_nothing_else(folder: Path) -> None:
    (folder / "server-cert.pem").write_bytes(CA.server("a.example", eku=None).pem)
    (folder / "device-cert.crt").write_bytes(CA.device("dev-1").pem)
    (folder / "forged.pem").write_bytes(CA.impostor().device("dev-2").pem)
    (folder / "foreign.pem").write_bytes(CertificateAuthority("Other").device("dev-3").pem)
    (folder / "notes.pem").write_text("nothing")
    more = folder / "more"
    more.mkdir()
    (more / "line.pem").write_bytes(CA.intermediate("Line 1").pem)
    single = folder / "elsewhere"
    single.write_bytes(CA.device("dev-4").pem)
    adopted = adoption.adopt(folder, issued=[more, single])
    assert adopted.certificates == 5
    assert {Path(each.where).name: each.why for each in adopted.left_out} == {
        "forged.pem": "it names this CA as its issuer, and does not carry its signature",
        "foreign.pem": "CN=dev-3 was issued by another CA, CN=Other",
        "notes.pem": f"{folder / 'notes.pem'} holds no certificate, key, request or revocation list, in PEM or in DER",
    }
    assert kinds(folder) == {
        "ca-cert.pem": Kind.ROOT,
        "server-cert.pem": Kind.SERVER,
        "device-cert.crt": Kind.DEVICE,
        "more/line.pem": Kind.INTERMEDIATE,
        "elsewhere": Kind.DEVICE,
    }
    assert adoption.adopt(folder).certificates == 0


def test_a_certificate_signed_with_sha1_is_found(folder: Path) -> None:
    leaf = der.SignedPart(CA.device("dev-1").der).signed(CA.key, der.ECDSA_SHA1)
    (folder / "old.crt").write_bytes(pem(leaf))
    assert adoption.adopt(folder).certificates == 2


def test_der_is_taken_too_and_every_certificate_of_a_file(folder: Path) -> None:
    (folder / "one.cer").write_bytes(CA.device("dev-1").der)
    (folder / "two.der").write_bytes(CA.device("dev-2").der)
    (folder / "more.pem").write_bytes(CA.device("dev-3").pem + CA.device("dev-4").pem + CA.pem)
    (folder / "key.pem").write_bytes(CA.key_pem)
    adopted = adoption.adopt(folder)
    assert (adopted.certificates, adopted.left_out) == (5, ())


def test_a_second_certificate_of_one_serial_number_is_told(folder: Path) -> None:
    one, two = CA.device("dev-1", serial=7), CA.device("dev-2", serial=7)
    (folder / "1.pem").write_bytes(one.pem)
    (folder / "2.pem").write_bytes(two.pem)
    (folder / "copy.pem").write_bytes(one.pem)
    for _ in range(2):  # also where the first is on record already
        (left,) = adoption.adopt(folder).left_out
        assert left.where == str(folder / "2.pem")
        assert "CN=dev-2 has the serial number 07 of another certificate, CN=dev-1 (1.pem)" in left.why
        (folder / "1.pem").unlink(missing_ok=True)
        (folder / "copy.pem").unlink(missing_ok=True)


def test_what_cannot_be_a_certificate_is_told(folder: Path) -> None:
    (folder / "large.pem").write_bytes(CA.pem + bytes(1 << 20))
    (folder / "odd.pem").write_bytes(pem(b"\x30\x03\x02\x01\x01"))
    (folder / "old.pem").write_bytes(CertificateAuthority("My CA", key=CA.key).pem)
    named = CA.device("x", san=["DNS:abc"]).certificate.public_bytes(Encoding.DER)
    (folder / "name.pem").write_bytes(pem(named.replace(b"\x82\x03abc", b"\xa3\x03\x0c\x01a")))  # x400Address
    reasons = {Path(each.where).name: each.why for each in adoption.adopt(folder).left_out}
    assert set(reasons) == {"large.pem", "odd.pem", "old.pem", "name.pem"}
    assert "too large" in reasons["large.pem"]
    assert "cannot be read" in reasons["odd.pem"]
    assert "a certificate of the CA itself" in reasons["old.pem"]


def test_revocation_lists_are_taken_over_with_their_number(folder: Path) -> None:
    (folder / "ca.crl").write_bytes(CA.crl([5], number=4))
    (folder / "older.crl").write_bytes(CA.crl([6, 7], number=3))
    adopted = adoption.adopt(folder, crls=[folder / "older.crl"])
    assert (adopted.revocations, adopted.number) == (3, 4)
    assert revocation.write_crl(folder).number == 5
    again = adoption.adopt(folder)
    assert (again.revocations, again.number) == (0, 5)


@pytest.mark.parametrize(
    "crl", [CertificateAuthority("Other").crl([1]), CA.impostor().crl([1])], ids=["of another", "forged"]
)
def test_a_list_that_is_not_the_cas_is_refused(folder: Path, crl: bytes) -> None:
    (folder / "ca.crl").write_bytes(crl)
    with pytest.raises(RevocationError, match="is not a revocation list of CN=My CA"):
        adoption.adopt(folder)
    assert not (folder / INDEX).exists()


def test_the_database_of_openssl(folder: Path) -> None:
    (folder / "index.txt").write_text(
        "V\t361125000000Z\t\t0A\tunknown\t/CN=a\n"
        "R\t361125000000Z\t261125101112Z,keyCompromise\t0B\tunknown\t/CN=b\n"
        "R\t20561125000000Z\t20510101000000Z\t1000\tunknown\t/CN=c\n"
        "E\t251125000000Z\t\t0C\tunknown\t/CN=d\n"
    )
    (folder / "crlnumber").write_text("0F\n")
    adopted = adoption.adopt(folder, database=folder / "index.txt")
    assert (adopted.revocations, adopted.number) == (2, 14)
    assert [each.where.partition(", ")[2] for each in adopted.left_out] == ["line 1", "line 2", "line 3", "line 4"]
    assert adopted.left_out[0].why.startswith("there is no certificate of the serial number 0a")
    with Index.open(folder) as index:
        first, second = index.revocations()
    assert (first.serial, first.reason, first.at) == (
        "0b",
        Reason.KEY_COMPROMISE,
        datetime(2026, 11, 25, 10, 11, 12, tzinfo=UTC),
    )
    assert (second.serial, second.reason) == ("1000", Reason.UNSPECIFIED)


@pytest.mark.parametrize(
    "line", ["X\ta\tb\tc\td\te", "nothing", "R\t1\tnever\t0A\tx\ty", "R\t1\t261125101112Z\tzz\tx\ty"]
)
def test_a_damaged_database_is_told_with_its_line(folder: Path, line: str) -> None:
    (folder / "index.txt").write_text(f"V\t361125000000Z\t\t0A\tunknown\t/CN=a\n{line}\n")
    with pytest.raises(AdoptionError, match=r"index\.txt, line 2"):
        adoption.adopt(folder, database=folder / "index.txt")
    assert not (folder / INDEX).exists()


def test_a_ca_from_elsewhere_is_copied_and_its_key_locked(folder: Path) -> None:
    target = folder / "pki"
    certificate, key = folder / "ca-cert.pem", folder / "ca-private.key"
    adoption.adopt(target, certificate_path=certificate, key_path=key)
    assert (target / "ca-private.key").read_bytes() == CA.key_pem
    assert (target / "ca-private.key").stat().st_mode & 0o777 == 0o600
    adoption.adopt(target, certificate_path=certificate, key_path=key)
    other = folder / "other"
    other.mkdir()
    CertificateAuthority("Other").write(other, "ca")
    with pytest.raises(ExistsError, match="never overwritten"):
        adoption.adopt(target, certificate_path=other / "ca.pem", key_path=other / "ca.key")


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        (lambda folder: {"certificate_path": folder / "ca-cert.pem"}, AdoptionError, "only one"),
        (lambda folder: {"issued": [folder / "none"]}, AdoptionError, "is missing"),
        (lambda folder: {"database": folder / "none"}, AdoptionError, "cannot read openssl's database"),
        (lambda folder: {"crls": [folder / "none"]}, RevocationError, "cannot read the revocation list"),
        (
            lambda folder: {"certificate_path": folder / "ca-cert.pem", "key_path": folder / "other.key"},
            SignerError,
            "is not the key of",
        ),
    ],
)
def test_wrong_input(
    folder: Path, options: Callable[[Path], dict[str, Path]], error: type[Exception], word: str
) -> None:
    CertificateAuthority("Other").write(folder, "other")
    with pytest.raises(error, match=word):
        adoption.adopt(folder, **options(folder))  # type: ignore[arg-type]


def test_there_must_be_a_ca(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="is missing"):
        adoption.adopt(tmp_path)
    (tmp_path / "ca-cert.pem").write_bytes(CA.pem)
    (tmp_path / "ca-private.key").write_text("nothing")
    with pytest.raises(KeyFileError):
        adoption.adopt(tmp_path)
    assert not (tmp_path / INDEX).exists()
