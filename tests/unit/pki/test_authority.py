"""`pki.authority` and `pki.signer`: what lies in the directory afterwards, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_ambassador.files import Content, ExistsError, WriteError
from mtls_ambassador.pki import authority, issuing, keys, revocation
from mtls_ambassador.pki.conflicts import ConflictError
from mtls_ambassador.pki.entries import Kind, Reason, Status
from mtls_ambassador.pki.index import INDEX, Index
from mtls_ambassador.pki.issuing import Issued
from mtls_ambassador.pki.keys import KeyFileError, KeyKind
from mtls_ambassador.pki.profiles import ProfileError, SubjectFields
from mtls_ambassador.pki.request import RequestError
from mtls_ambassador.pki.signer import SignerError
from tests.certificates import CertificateAuthority, Holder, PrivateKey, new_key
from tests.unit.pki.test_request import csr

NOW = datetime(2030, 5, 17, tzinfo=UTC)

# The documentation's openssl commands with OpenSSL 3.0 (an X.509 version 1 certificate), -days $((365*100)).
OPENSSL_CA_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEICUc3NyPSCKeT3g6NrKn4dQW7X6TDvsyiTnQA7aoHVUloAoGCCqGSM49
AwEHoUQDQgAEjOQRKGrpypdpgrDaGM99XxHqItZ+3C8iDxFWAnd25Ra0Z2QCtdsD
/M1c4SjQBaDlHbsnWBhRUAFQcEn6MyWOIg==
-----END EC PRIVATE KEY-----
"""
OPENSSL_CA_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIICHDCCAcECFHqDZF/0U9HCJpkdvUkz642EK9a8MAoGCCqGSM49BAMCMIGOMQ4w
DAYDVQQDDAVNeSBDQTEYMBYGA1UECgwPTXkgT3JnYW5pemF0aW9uMRAwDgYDVQQL
DAdNeSBVbml0MSUwIwYJKoZIhvcNAQkBFhZteXVzZXJuYW1lQGV4YW1wbGUuY29t
MQswCQYDVQQGEwJOTzENMAsGA1UEBwwET3NsbzENMAsGA1UECAwET3NsbzAgFw0y
NjExMjMxNjI1MjhaGA8yMTI2MTAzMDE2MjUyOFowgY4xDjAMBgNVBAMMBU15IENB
MRgwFgYDVQQKDA9NeSBPcmdhbml6YXRpb24xEDAOBgNVBAsMB015IFVuaXQxJTAj
BgkqhkiG9w0BCQEWFm15dXNlcm5hbWVAZXhhbXBsZS5jb20xCzAJBgNVBAYTAk5P
MQ0wCwYDVQQHDARPc2xvMQ0wCwYDVQQIDARPc2xvMFkwEwYHKoZIzj0CAQYIKoZI
zj0DAQcDQgAEjOQRKGrpypdpgrDaGM99XxHqItZ+3C8iDxFWAnd25Ra0Z2QCtdsD
/M1c4SjQBaDlHbsnWBhRUAFQcEn6MyWOIjAKBggqhkjOPQQDAgNJADBGAiEAo1O+
xmiVKLEay96ARdtdNJHp01Kz3xiMumrPSJu2ShACIQC14dGJmX+nBiVD/cUeSOMy
2UM8xo8g1IiGIC+cS2shMA==
-----END CERTIFICATE-----
"""

issue_both = pytest.mark.parametrize("issue", [authority.issue_server, authority.issue_device])


def content(directory: Path) -> dict[str, bytes]:
    """All files but the index, which tests/unit/pki/test_index.py looks at."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != INDEX}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def put_ca(directory: Path, ca: Holder) -> None:
    (directory / "ca-cert.pem").write_bytes(ca.pem)
    (directory / "ca-private.key").write_bytes(ca.key_pem)


def test_the_files_have_the_documentations_names_and_only_their_owner_reads_the_keys(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    authority.issue_server(tmp_path, "my-server.com")
    authority.issue_device(tmp_path, "my-device-hostname.com")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
        "ca-private.key": 0o600,
        "ca-cert.pem": 0o644,
        "index.sqlite3": 0o600,
        "server-private.key": 0o600,
        "server-cert.pem": 0o644,
        "device-private.key": 0o600,
        "device-cert.pem": 0o644,
    }


def test_the_record_says_what_was_written(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    for issued in (authority.issue_server(tmp_path, "my-server.com"), authority.issue_device(tmp_path, "dev-1")):
        assert x509.load_pem_x509_certificate(issued.certificate_path.read_bytes()) == issued.certificate
        key = keys.load_private_key(issued.key_path)
        assert key.public_key() == issued.certificate.public_key()


def test_days_are_the_documentations(tmp_path: Path) -> None:
    ca = authority.init(tmp_path, "My CA", now=NOW)
    server = authority.issue_server(tmp_path, "my-server.com", now=NOW)
    device = authority.issue_device(tmp_path, "dev-1", now=NOW)
    ends = [issued.certificate.not_valid_after_utc - NOW for issued in (ca, server, device)]
    assert ends == [timedelta(days=3650), timedelta(days=730), timedelta(days=3650)]


def test_everything_asked_for_arrives_in_the_certificates(tmp_path: Path) -> None:
    oslo = SubjectFields(organization="Org", locality="Oslo")
    ca = authority.init(tmp_path, "My CA", kind=KeyKind.ED25519, days=10, subject=oslo, now=NOW)
    server = authority.issue_server(
        tmp_path, "a.example", san=["IP:192.0.2.1"], kind=KeyKind.ED25519, days=3, subject=oslo, now=NOW
    )
    device = authority.issue_device(tmp_path, "dev-1", kind=KeyKind.ED25519, days=4, subject=oslo, now=NOW)
    for issued, cn, days in ((ca, "My CA", 10), (server, "a.example", 3), (device, "dev-1", 4)):
        assert issued.certificate.subject.rfc4514_string() == f"L=Oslo,O=Org,CN={cn}"
        assert issued.certificate.not_valid_after_utc == NOW + timedelta(days=days)
        assert isinstance(keys.load_private_key(issued.key_path), ed25519.Ed25519PrivateKey)
        issued.certificate.verify_directly_issued_by(ca.certificate)
    names = server.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["a.example", "192.0.2.1"]


def test_serials_are_random_and_every_tool_prints_32_digits(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    serials = {authority.issue_device(tmp_path, f"dev-{n}", replace=True).certificate.serial_number for n in range(8)}
    assert len(serials) == 8
    assert {len(f"{serial:x}") for serial in serials} == {32}


def test_the_directories_are_made(tmp_path: Path) -> None:
    authority.init(tmp_path / "a" / "pki", "My CA")
    issued = authority.issue_device(tmp_path / "a" / "pki", "dev-1", out=tmp_path / "devices" / "dev-1")
    assert set(content(tmp_path / "devices" / "dev-1")) == {"device-private.key", "device-cert.pem"}
    assert issued.key_path == tmp_path / "devices" / "dev-1" / "device-private.key"
    assert set(content(tmp_path / "a" / "pki")) == {"ca-private.key", "ca-cert.pem"}


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot make the directory"):
        authority.init(tmp_path / "file" / "pki", "My CA")


@pytest.mark.parametrize("left", ["ca-private.key", "ca-cert.pem"])
def test_a_ca_or_half_of_one_is_never_overwritten(tmp_path: Path, left: str) -> None:
    authority.init(tmp_path, "My CA")
    for path in tmp_path.iterdir():
        if path.name != left:
            path.unlink()
    before = content(tmp_path)
    with pytest.raises(ExistsError, match=f"{re.escape(left)} is there already") as caught:
        authority.init(tmp_path, "My CA")
    assert "another directory" in caught.value.remedy
    assert content(tmp_path) == before


@issue_both
def test_a_leaf_is_overwritten_only_on_request(tmp_path: Path, issue: Callable[..., Issued]) -> None:
    authority.init(tmp_path, "My CA")
    first = issue(tmp_path, "a.example")
    before = content(tmp_path)
    with pytest.raises(ExistsError):
        issue(tmp_path, "b.example")
    assert content(tmp_path) == before
    first.key_path.unlink()
    with pytest.raises(ExistsError):
        issue(tmp_path, "b.example")
    assert not first.key_path.exists()
    second = issue(tmp_path, "b.example", replace=True)
    assert keys.load_private_key(second.key_path).public_key() == second.certificate.public_key()
    assert second.certificate.public_key() != first.certificate.public_key()


@issue_both
def test_a_request_that_cannot_be_met_leaves_no_file(tmp_path: Path, issue: Callable[..., Issued]) -> None:
    authority.init(tmp_path, "My CA")
    before = content(tmp_path)
    for odd in ({"days": 0}, {"subject": SubjectFields(country="Norway")}):
        with pytest.raises(ProfileError):
            issue(tmp_path, "a.example", **odd)
    assert content(tmp_path) == before


def test_the_ca_of_the_documentations_openssl_commands_signs(tmp_path: Path) -> None:
    (tmp_path / "ca-private.key").write_text(OPENSSL_CA_KEY)
    (tmp_path / "ca-cert.pem").write_text(OPENSSL_CA_CERTIFICATE)
    ca = x509.load_pem_x509_certificate(OPENSSL_CA_CERTIFICATE.encode())
    assert ca.version is x509.Version.v1
    server = authority.issue_server(tmp_path, "my-server.com", now=NOW)
    device = authority.issue_device(tmp_path, "dev-1", now=NOW)
    expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        keys.load_private_key(tmp_path / "ca-private.key").public_key()
    )
    purposes: list[x509.ObjectIdentifier] = []
    for issued in (server, device):
        issued.certificate.verify_directly_issued_by(ca)
        extensions = issued.certificate.extensions
        assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value == expected
        purposes += extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert purposes == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@issue_both
@pytest.mark.parametrize("lost", ["ca-private.key", "ca-cert.pem"])
def test_a_missing_ca_is_told_with_the_command_that_makes_one(
    tmp_path: Path, issue: Callable[..., Issued], lost: str
) -> None:
    authority.init(tmp_path, "My CA")
    (tmp_path / lost).unlink()
    with pytest.raises(SignerError, match=f"{re.escape(lost)} is missing") as caught:
        issue(tmp_path, "a.example")
    assert "mtls-ambassador pki init" in caught.value.remedy


@issue_both
def test_a_key_of_another_ca_is_told(tmp_path: Path, issue: Callable[..., Issued]) -> None:
    put_ca(tmp_path, CertificateAuthority("My CA").impostor())
    with pytest.raises(SignerError, match="is not the key of"):
        issue(tmp_path, "a.example")


@issue_both
def test_an_expired_ca_is_told(tmp_path: Path, issue: Callable[..., Issued]) -> None:
    authority.init(tmp_path, "My CA", days=1, now=NOW)
    issue(tmp_path, "a.example", now=NOW + timedelta(days=1))
    with pytest.raises(SignerError, match="expired on 2030-05-18") as caught:
        issue(tmp_path, "a.example", replace=True, now=NOW + timedelta(days=1, seconds=1))
    assert "Renew" in caught.value.remedy


@issue_both
def test_a_ca_of_the_future_points_to_the_clock(tmp_path: Path, issue: Callable[..., Issued]) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    with pytest.raises(SignerError, match="not valid before") as caught:
        issue(tmp_path, "a.example", now=NOW - timedelta(days=1))
    assert "clock" in caught.value.remedy


@issue_both
@pytest.mark.parametrize(
    "no_ca",
    [
        CertificateAuthority("My CA", ca=False, key_usage=None),
        CertificateAuthority("My CA", key_usage=("digitalSignature",)),
        CertificateAuthority("My CA").device("dev-1"),
    ],
    ids=["ca_false", "no_key_cert_sign", "leaf"],
)
def test_a_certificate_that_is_no_cas_is_told(tmp_path: Path, issue: Callable[..., Issued], no_ca: Holder) -> None:
    put_ca(tmp_path, no_ca)
    with pytest.raises(SignerError, match="is not a CA's certificate"):
        issue(tmp_path, "a.example")


def test_a_version_3_ca_without_its_flag_signs_devices_but_no_servers(tmp_path: Path) -> None:
    put_ca(tmp_path, CertificateAuthority("My CA", ca=None, key_usage=None))
    authority.issue_device(tmp_path, "dev-1")
    with pytest.raises(SignerError, match="devices would refuse") as caught:
        authority.issue_server(tmp_path, "my-server.com")
    assert "basicConstraints=critical,CA:TRUE" in caught.value.remedy


def test_a_damaged_ca_certificate_is_told(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    (tmp_path / "ca-cert.pem").write_text("nothing")
    with pytest.raises(SignerError, match="holds no certificate in PEM form"):
        authority.issue_device(tmp_path, "dev-1")
    (tmp_path / "ca-cert.pem").unlink()
    (tmp_path / "ca-cert.pem").mkdir()
    with pytest.raises(SignerError, match="cannot read the CA certificate"):
        authority.issue_device(tmp_path, "dev-1")


def test_a_damaged_ca_key_is_told(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    (tmp_path / "ca-private.key").write_text("nothing")
    with pytest.raises(KeyFileError, match="holds no private key"):
        authority.issue_device(tmp_path, "dev-1")


# Intermediates


def test_an_intermediate_issues_under_a_root_that_can_be_taken_away(tmp_path: Path) -> None:
    made = authority.init(tmp_path, "My CA", intermediate="Issuing CA", now=NOW)
    root = x509.load_pem_x509_certificate((tmp_path / "root" / "ca-cert.pem").read_bytes())
    made.certificate.verify_directly_issued_by(root)
    assert mode(tmp_path / "root" / "ca-private.key") == mode(tmp_path / "ca-private.key") == 0o600
    (tmp_path / "root").rename(tmp_path / "offline")
    for issued in (
        authority.issue_server(tmp_path, "my-server.com", now=NOW),
        authority.issue_device(tmp_path, "dev-1", now=NOW),
    ):
        presented = x509.load_pem_x509_certificates(issued.certificate_path.read_bytes())
        assert presented == [issued.certificate, made.certificate]
    with Index.open(tmp_path / "offline", writable=False) as index:
        assert [(entry.kind, entry.subject) for entry in index.entries()] == [
            (Kind.ROOT, "CN=My CA"),
            (Kind.INTERMEDIATE, "CN=Issuing CA"),
        ]


@pytest.mark.parametrize("left", ["root/ca-private.key", "ca-cert.pem", "ca-chain.pem", "index.sqlite3"])
def test_nothing_of_an_intermediate_is_overwritten(tmp_path: Path, left: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / left).touch()
    with pytest.raises(ExistsError, match="is there already"):
        authority.init(tmp_path, "My CA", intermediate="Issuing CA")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / left]


# Passphrases


def test_an_encrypted_ca_signs_for_who_knows_the_passphrase(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", passphrase=b"secret")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "ca-private.key").read_bytes()
    authority.issue_device(tmp_path, "dev-1", passphrase=lambda: b"secret")
    with pytest.raises(KeyFileError, match="does not open"):
        authority.issue_device(tmp_path, "dev-2", passphrase=lambda: b"wrong")
    with pytest.raises(KeyFileError, match="is encrypted"):
        authority.issue_device(tmp_path, "dev-2")


def test_no_passphrase_is_asked_for_a_key_that_needs_none(tmp_path: Path) -> None:
    def ask() -> bytes:
        raise AssertionError

    authority.init(tmp_path, "My CA")
    authority.issue_device(tmp_path, "dev-1", passphrase=ask)


# The index


def test_everything_issued_is_on_record(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    server = authority.issue_server(tmp_path, "my-server.com")
    device = authority.issue_device(tmp_path, "dev-1", out=tmp_path / "devices" / "dev-1")
    away = authority.issue_device(tmp_path, "dev-2", out=tmp_path.parent / f"{tmp_path.name}-away")
    with Index.open(tmp_path, writable=False) as index:
        _, *entries = index.entries()
    assert [(entry.kind, entry.path, entry.status) for entry in entries] == [
        (Kind.SERVER, "server-cert.pem", Status.VALID),
        (Kind.DEVICE, "devices/dev-1/device-cert.pem", Status.VALID),
        (Kind.DEVICE, str(away.certificate_path), Status.VALID),
    ]
    for entry, issued in zip(entries, (server, device, away), strict=True):
        assert x509.load_der_x509_certificate(entry.der) == issued.certificate


def test_what_was_not_written_for_a_file_in_the_way_is_not_on_record(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    authority.issue_device(tmp_path, "dev-1")
    with pytest.raises(ExistsError):
        authority.issue_device(tmp_path, "dev-2")
    with Index.open(tmp_path) as index:
        assert index.of_subject("CN=dev-2") == []


def test_what_could_not_be_written_at_all_is_not_on_record(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    with pytest.raises(WriteError):
        authority.issue_device(tmp_path, "dev-1", out=Path("/proc"))
    with Index.open(tmp_path) as index:
        assert index.of_subject("CN=dev-1") == []
    authority.issue_device(tmp_path, "dev-1")


def test_what_may_have_been_written_is_on_record_as_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(contents: Sequence[Content], **_: object) -> None:
        contents[-1].path.write_bytes(contents[-1].data)
        raise WriteError("the disk is full")

    authority.init(tmp_path, "My CA")
    monkeypatch.setattr(issuing, "write_together", fail)
    with pytest.raises(WriteError):
        authority.issue_device(tmp_path, "dev-1")
    with Index.open(tmp_path) as index:
        (entry,) = index.entries(pending=True)
    assert (entry.subject, entry.status) == ("CN=dev-1", Status.PENDING)


# Requests


def put_request(directory: Path, key: PrivateKey, name: str = "device-cert.req", cn: str = "dev-1") -> Path:
    path = directory / name
    path.write_bytes(csr(key, cn, extensions=True).public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("request_name", "certificate_name"),
    [("device-cert.req", "device-cert.pem"), ("a.csr", "a.pem"), ("a.pem", "a-cert.pem"), ("a", "a-cert.pem")],
)
def test_a_request_is_signed_beside_it(tmp_path: Path, request_name: str, certificate_name: str) -> None:
    ca = authority.init(tmp_path, "My CA").certificate
    key = new_key()
    signed = authority.sign(tmp_path, put_request(tmp_path, key, request_name))
    assert signed.certificate_path == tmp_path / certificate_name
    assert signed.not_taken == ("basicConstraints",)
    assert signed.certificate.public_key() == key.public_key()
    assert signed.certificate.subject.rfc4514_string() == "CN=dev-1"
    signed.certificate.verify_directly_issued_by(ca)
    assert not signed.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_request_for_a_server_under_another_name(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA")
    path = put_request(tmp_path, new_key(), "server-cert.req", "whatever")
    signed = authority.sign(tmp_path, path, cn="my-server.com", kind=Kind.SERVER, san=["IP:192.0.2.1"], days=9)
    san = signed.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in san] == ["my-server.com", "192.0.2.1"]
    assert signed.certificate.subject.rfc4514_string() == "CN=my-server.com"


def test_the_keys_of_the_ca_and_of_servers_are_no_devices(tmp_path: Path) -> None:
    ca, server = authority.init(tmp_path, "My CA"), authority.issue_server(tmp_path, "my-server.com")
    for issued, error, words in (
        (ca, RequestError, "the key of the CA itself"),
        (server, ConflictError, "the key of CN=my-server.com"),
    ):
        path = put_request(tmp_path, keys.load_private_key(issued.key_path))
        with pytest.raises(error, match=words):
            authority.sign(tmp_path, path)
        assert not (tmp_path / "device-cert.pem").exists()


# Subjects and keys that are somebody's


@pytest.fixture
def victim(tmp_path: Path) -> Issued:
    authority.init(tmp_path, "My CA", now=NOW)
    return authority.issue_device(tmp_path, "victim", out=tmp_path / "v", now=NOW)


def test_a_request_does_not_get_the_subject_of_another_device(tmp_path: Path, victim: Issued) -> None:
    request = put_request(tmp_path, new_key(), cn="victim")
    with pytest.raises(ConflictError, match="CN=victim has a certificate already"):
        authority.sign(tmp_path, request, now=NOW)
    with pytest.raises(ConflictError, match="CN=victim has a certificate already"):
        authority.sign(tmp_path, put_request(tmp_path, new_key(), "b.req"), cn="victim", out=tmp_path / "b", now=NOW)
    with pytest.raises(ConflictError, match="CN=victim has a certificate already"):
        authority.issue_device(tmp_path, "victim", replace=True, now=NOW)
    assert not list(tmp_path.glob("device*.pem"))
    assert not (tmp_path / "b").exists()
    with Index.open(tmp_path) as index:
        assert len(index.of_subject("CN=victim")) == 1


def test_whoever_means_it_says_so(tmp_path: Path, victim: Issued) -> None:
    request = put_request(tmp_path, new_key(), cn="victim")
    authority.sign(tmp_path, request, again=True, now=NOW)
    authority.issue_device(tmp_path, "victim", again=True, out=tmp_path / "again", now=NOW)
    with Index.open(tmp_path) as index:
        assert len(index.of_subject("CN=victim")) == 3


def test_what_is_revoked_or_expired_is_in_nobodys_way(tmp_path: Path, victim: Issued) -> None:
    revocation.revoke(tmp_path, victim.certificate, now=NOW)
    second = authority.issue_device(tmp_path, "victim", days=2, now=NOW)
    later = second.certificate.not_valid_after_utc + timedelta(days=1)
    authority.sign(tmp_path, put_request(tmp_path, new_key(), "c.req", cn="victim"), now=later)


@pytest.mark.parametrize("again", [False, True])
def test_a_devices_key_gets_no_second_name(tmp_path: Path, victim: Issued, *, again: bool) -> None:
    request = put_request(tmp_path, keys.load_private_key(victim.key_path), cn="second")
    for kind in (Kind.DEVICE, Kind.SERVER):
        with pytest.raises(ConflictError, match="CN=second has the key of CN=victim"):
            authority.sign(tmp_path, request, kind=kind, again=again, now=NOW)


def test_a_compromised_key_is_not_signed_again(tmp_path: Path, victim: Issued) -> None:
    request = put_request(tmp_path, keys.load_private_key(victim.key_path), cn="victim")
    revocation.revoke(tmp_path, victim.certificate, now=NOW)
    authority.sign(tmp_path, request, now=NOW)
    revocation.revoke(tmp_path, victim.certificate, reason=Reason.KEY_COMPROMISE, now=NOW)
    for cn in (None, "other"):
        with pytest.raises(ConflictError, match="revoked for keyCompromise"):
            authority.sign(tmp_path, request, cn=cn, again=True, replace=True, now=NOW)


def test_a_servers_key_never_becomes_a_devices(tmp_path: Path) -> None:
    authority.init(tmp_path, "My CA", now=NOW)
    server = authority.issue_server(tmp_path, "my-server.com", now=NOW)
    revocation.revoke(tmp_path, server.certificate, now=NOW)
    request = put_request(tmp_path, keys.load_private_key(server.key_path))
    with pytest.raises(ConflictError, match="which is no device"):
        authority.sign(tmp_path, request, again=True, now=NOW)


# Files of a CA


@pytest.mark.parametrize("name", ["ca-cert.req", "CA-Cert.csr", "ca", "ca-chain.req"])
@pytest.mark.parametrize("out", [None, "elsewhere"])
def test_nothing_signed_takes_the_place_of_a_cas_file(tmp_path: Path, name: str, out: str | None) -> None:
    made = authority.init(tmp_path, "My CA")
    request = put_request(tmp_path, new_key(), name)
    with pytest.raises(ExistsError, match="where a CA's own file belongs"):
        authority.sign(tmp_path, request, out=tmp_path / out if out else None, replace=True)
    assert x509.load_pem_x509_certificate((tmp_path / "ca-cert.pem").read_bytes()) == made.certificate
    assert {path.name for path in tmp_path.iterdir()} == {"ca-cert.pem", "ca-private.key", "index.sqlite3", name}
    authority.issue_device(tmp_path, "dev-1")
