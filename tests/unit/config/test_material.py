"""`config.material`: certificates and keys are judged before Envoy sees them."""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ed448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtensionOID

from mtls_ambassador.config import material
from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.material import Material, certificate_names, load_material, pem
from mtls_ambassador.config.settings import Settings
from tests.certificates import CertificateAuthority, Holder, KeyKind

NOW = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=30)  # all certificates here begin an hour ago
CA = CertificateAuthority("My CA")
SERVER = CA.server("my-server.com")
BAD = x509.UnrecognizedExtension(ExtensionOID.BASIC_CONSTRAINTS, b"\xff\xff")

# openssl x509 -req -signkey ..., as OpenSSL before 3.2 does it: no extension at all
X509_V1 = b"""\
-----BEGIN CERTIFICATE-----
MIIBHDCBwwIUEk/gIwgbmxisMA1XdblpAwyTu8AwCgYIKoZIzj0EAwIwEDEOMAwG
A1UEAwwFTXkgQ0EwIBcNMjYxMTIzMTY0NDU3WhgPMjEyNjEwMzAxNjQ0NTdaMBAx
DjAMBgNVBAMMBU15IENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjXWsamFV
WLHwkY+ijp3oxblpdxrpIDwIsCq1GUHXTqPOvdDWqSSkj0RfF2tk6wtchdgo1aJN
JsWtmIFR3Y8FODAKBggqhkjOPQQDAgNIADBFAiEA5XOXJg1GYS0cGcKq0rdZsGZX
w81RIpl47vEyLV6EDRoCIETomRW1nO/gEkJxGIkqV3XXmLVhD85gr25Oh8YUUpqt
-----END CERTIFICATE-----
"""


@dataclass
class Files:
    """The files that settings name: good ones, unless a test spoils them."""

    directory: Path

    def __post_init__(self) -> None:
        self.serve(SERVER)
        self.trust(CA.pem)

    @property
    def certificate(self) -> Path:
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        return self.directory / "server.key"

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.pem"

    def serve(self, holder: Holder) -> None:
        holder.write(self.directory, "server")
        self.key.chmod(0o600)

    def trust(self, content: bytes) -> None:
        self.bundle.write_bytes(content)

    def load(self, now: dt.datetime = NOW, **more: Any) -> Material:
        return load_material(self.settings(**more), now)

    def settings(self, **more: Any) -> Settings:
        given = {
            "mender_backend": "http://mender",
            "mender_token": "t",
            "server_cert": self.certificate,
            "server_key": self.key,
            "tenant_ca_pem": self.bundle,
        }
        return Settings.model_validate({**given, **more})

    def complaint(self, **more: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(**more)
        assert all(problem.remedy for problem in caught.value.problems)
        return str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def with_der(holder: Holder, before: str, after: str) -> bytes:
    """The holder's certificate with other bytes in it, PEM; the signature does not matter here."""
    old, new = bytes.fromhex(before), bytes.fromhex(after)
    assert old in holder.der
    body = base64.encodebytes(holder.der.replace(old, new, 1))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


P256_OID, UNKNOWN_CURVE_OID = "06082a8648ce3d030107", "06082a8648ce3d030163"
KEY_IDENTIFIER_OID, BASIC_CONSTRAINTS_OID = "0603551d0e", "0603551d13"
VERSION_3, VERSION_6 = "a003020102", "a003020105"


def test_good_material(files: Files) -> None:
    found = files.load()
    assert found.server_chain == (SERVER.certificate,)
    assert found.server_names == ("my-server.com",)
    assert found.device_cas == (CA.certificate,)
    assert found.upstream_trust is None
    assert found.warnings == ()
    assert found.server_chain_pem.encode() == SERVER.pem
    assert found.device_ca_pem.encode() == CA.pem
    assert pem(SERVER.certificate).encode() == SERVER.pem


def test_an_intermediate_of_the_server_is_shown_too(files: Files) -> None:
    line = CA.intermediate("Line 1")
    server = line.server("my-server.com")
    files.serve(server)
    assert files.load().server_chain == (server.certificate, line.certificate)
    assert files.load().server_chain_pem.encode() == server.chain_pem


def test_only_certificates_are_taken_from_the_bundle(files: Files) -> None:
    other = CertificateAuthority("Other CA")
    files.trust(b"# ours\n" + CA.key_pem + CA.pem + b"junk\n" + other.pem)
    assert files.load().device_ca_pem.encode() == CA.pem + other.pem
    assert "PRIVATE" not in files.load().device_ca_pem


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
def test_keys_that_envoy_can_serve_with(files: Files, kind: KeyKind) -> None:
    files.serve(CA.server("my-server.com", key=kind))
    assert files.load().warnings == ()


@pytest.mark.parametrize(
    "form",
    [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL],
)
def test_both_forms_of_a_key_are_read(files: Files, form: PrivateFormat) -> None:
    files.key.write_bytes(SERVER.key.private_bytes(Encoding.PEM, form, NoEncryption()))
    files.load()


# The server's certificate and key


def test_an_expired_server_certificate_stops_the_edge(files: Files) -> None:
    after = SERVER.certificate.not_valid_after_utc + dt.timedelta(seconds=1)
    text = files.complaint(now=after)
    assert text == (
        f"server_cert ({files.certificate}): expired on {after:%Y-%m-%d}\n  Issue a new server certificate."
    )


@pytest.mark.parametrize(
    ("days", "warning"),
    [(-29, "expires in 29 days"), (-31, None), (-1, "expires in 1 days"), (-60, "not valid before")],
)
def test_the_time_of_expiry_is_warned_of(files: Files, days: int, warning: str | None) -> None:
    end = NOW.replace(microsecond=0) + dt.timedelta(days=365)
    files.serve(CA.server("my-server.com", not_before=end - dt.timedelta(days=50), not_after=end))
    warnings = [text for text in files.load(end + dt.timedelta(days=days)).warnings if "server_cert" in text]
    assert len(warnings) == (warning is not None)
    assert (warning or "") in "".join(warnings)


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    files.key.write_bytes(CA.key_pem)
    text = files.complaint()
    assert text.startswith(f"server_key ({files.key}): does not belong to the certificate in {files.certificate}\n")
    assert "the first certificate in the file counts" in text


def test_the_first_certificate_counts(files: Files) -> None:
    files.certificate.write_bytes(CA.pem + SERVER.pem)
    assert "does not belong" in files.complaint()


@pytest.mark.parametrize(
    ("kind", "what"), [("rsa1024", "is RSA with 1024 bits"), ("secp256k1", "is on the curve secp256k1")]
)
def test_weak_keys_are_refused(files: Files, kind: KeyKind, what: str) -> None:
    files.serve(CA.server("my-server.com", key=kind))
    assert files.complaint().startswith(f"server_key ({files.key}): {what}\n")


@pytest.mark.parametrize("make", [ed448.Ed448PrivateKey.generate, lambda: dsa.generate_private_key(1024)])
def test_other_kinds_of_keys_are_refused(files: Files, make: Callable[[], Any]) -> None:
    files.key.write_bytes(make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "is of a kind TLS here cannot use\n  Use P-256" in files.complaint()


def test_an_encrypted_key_is_refused_with_the_command_to_decrypt_it(files: Files) -> None:
    locked = SERVER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    files.key.write_bytes(locked)
    text = files.complaint()
    assert text.startswith(f"server_key ({files.key}): is encrypted with a passphrase\n")
    assert "openssl pkey -in FILE -out NEW" in text


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", SERVER.pem, SERVER.key_pem[:90], b"\xff\x00"],
    ids=["empty", "junk", "certificate", "cut", "binary"],
)
def test_what_is_no_key_is_refused(files: Files, content: bytes) -> None:
    files.key.write_bytes(content)
    assert files.complaint().startswith(f"server_key ({files.key}): holds no private key that can be read\n")


def test_an_error_never_shows_a_key(files: Files) -> None:
    lines = SERVER.key_pem.decode().splitlines()
    files.key.write_text("\n".join([lines[0], lines[1], lines[-1]]))
    assert lines[1] not in files.complaint()


def test_a_key_that_everybody_may_read_is_warned_of(files: Files) -> None:
    files.key.chmod(0o644)
    assert files.load().warnings == (f"server_key {files.key} may be read by everybody: chmod 0600 it",)


def test_a_certificate_without_names_is_warned_of(files: Files) -> None:
    files.serve(CA.server("my-server.com", san=()))
    found = files.load()
    assert found.server_names == ("my-server.com",)
    (warning,) = found.warnings
    assert "has no subject alternative name" in warning


# Trust in devices


def test_a_certificate_that_is_no_ca_is_refused(files: Files) -> None:
    files.trust(CA.pem + SERVER.pem)
    text = files.complaint()
    assert text == (
        f"tenant_ca_pem ({files.bundle}), CN=my-server.com: is not a CA certificate\n"
        "  Give the certificate of the CA that signs your devices."
    )


def test_a_version_1_ca_is_accepted(files: Files) -> None:
    files.trust(X509_V1)
    found = files.load()
    assert found.device_cas[0].version is x509.Version.v1
    assert found.warnings == ()


def test_a_ca_without_basic_constraints_is_accepted(files: Files) -> None:
    files.trust(CertificateAuthority("Other CA", ca=None, key_usage=None).pem)
    assert files.load().warnings == ()


def test_such_a_ca_that_signed_the_server_too_is_warned_of(files: Files) -> None:
    ca = CertificateAuthority("My CA", ca=None, key_usage=None)
    files.trust(ca.pem)
    files.serve(ca.server("my-server.com"))
    (warning,) = files.load().warnings
    assert "CN=My CA is X.509 v3 without CA:TRUE and signed the server certificate" in warning


def test_an_expired_ca_is_warned_of(files: Files) -> None:
    old = CertificateAuthority("Old CA", not_before=NOW - dt.timedelta(days=2), not_after=NOW - dt.timedelta(days=1))
    files.trust(CA.pem + old.pem)
    (warning,) = files.load().warnings
    assert "CN=Old CA expired on" in warning
    assert "its devices are refused" in warning


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
def test_keys_of_cas_that_envoy_can_verify_with(files: Files, kind: KeyKind) -> None:
    files.trust(CertificateAuthority("Other CA", key=kind).pem)
    assert files.load().warnings == ()


def test_a_ca_on_another_curve_is_warned_of(files: Files) -> None:
    files.trust(CA.pem + CertificateAuthority("Odd CA", key="secp256k1").pem)
    (warning,) = files.load().warnings
    assert "CN=Odd CA has a key of a kind that TLS here cannot use: its devices are refused" in warning


# Files


@pytest.mark.parametrize(
    ("key", "name"), [("server_cert", "server.pem"), ("tenant_ca_pem", "ca.pem"), ("server_key", "server.key")]
)
def test_a_missing_file_is_told_with_its_key(files: Files, key: str, name: str) -> None:
    path = files.directory / name
    path.unlink()
    assert files.complaint() == (
        f"{key} ({path}): cannot be read: No such file or directory\n"
        f"  Set {key} to the right path, or put the file there."
    )


def test_a_file_that_may_not_be_read_is_told(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == files.key:
            raise PermissionError(13, os.strerror(13))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything, so the mode would not do
    assert files.complaint() == (
        f"server_key ({files.key}): cannot be read: Permission denied\n"
        "  Let the user the edge runs as read it (in the container: chown 65534)."
    )


def test_a_directory_is_no_file(files: Files) -> None:
    assert "server_cert" in files.complaint(server_cert=files.directory)
    assert "cannot be read: Is a directory" in files.complaint(server_cert=files.directory)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        SERVER.key_pem,
        SERVER.pem[:200],
        SERVER.der,
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        with_der(SERVER, VERSION_3, VERSION_6),
    ],
    ids=["empty", "junk", "key", "cut", "DER", "no ASN.1", "version 6"],  # bytes would differ from run to run
)
@pytest.mark.parametrize(("key", "name"), [("server_cert", "server.pem"), ("tenant_ca_pem", "ca.pem")])
def test_what_is_no_certificate_is_refused(files: Files, key: str, name: str, content: bytes) -> None:
    path = files.directory / name
    path.write_bytes(content)
    assert files.complaint().startswith(f"{key} ({path}): holds no certificate that can be read\n")


def test_all_problems_are_told_at_once(files: Files) -> None:
    files.trust(b"")
    files.key.write_bytes(b"")
    text = files.complaint(now=NOW + dt.timedelta(days=9999))
    assert [line.split(" ")[0] for line in text.splitlines()[::2]] == ["server_key", "tenant_ca_pem", "server_cert"]


@pytest.mark.parametrize(
    "spoiled",
    [
        CertificateAuthority("Odd", ca=None, extensions=[(BAD, False)]).pem,
        with_der(CA, KEY_IDENTIFIER_OID, BASIC_CONSTRAINTS_OID),
    ],
    ids=["extension that does not parse", "extension twice"],
)
def test_extensions_that_cannot_be_read_are_an_error(files: Files, spoiled: bytes) -> None:
    files.trust(spoiled)
    assert "holds extensions that cannot be read\n  Issue the CA certificate anew." in files.complaint()
    files.trust(CA.pem)
    files.certificate.write_bytes(spoiled)
    assert "holds extensions or a key that cannot be read\n  Issue a new server" in files.complaint()


def test_keys_that_cannot_be_read_are_an_error_or_warning(files: Files) -> None:
    files.trust(with_der(CA, P256_OID, UNKNOWN_CURVE_OID))
    (warning,) = files.load().warnings
    assert "has a key of a kind that TLS here cannot use" in warning
    files.certificate.write_bytes(with_der(SERVER, P256_OID, UNKNOWN_CURVE_OID))
    assert "holds extensions or a key that cannot be read" in files.complaint()


# Names


@pytest.mark.parametrize(
    ("san", "names"),
    [
        (["DNS:a.b", "IP:10.0.0.1", "DNS:*.b", "IP:fd00::1"], ("a.b", "*.b", "10.0.0.1", "fd00::1")),
        (["URI:urn:x"], ()),
        ([], ("cn.example",)),
    ],
)
def test_names_are_sans_else_the_cn(san: list[str], names: tuple[str, ...]) -> None:
    assert certificate_names(CA.server("cn.example", san=san).certificate) == names


def test_a_certificate_may_have_no_name_at_all() -> None:
    assert certificate_names(CA.server("x", san=(), subject=x509.Name([])).certificate) == ()


# Trust in the Mender Server


def test_plain_http_and_insecure_verify_nothing(files: Files) -> None:
    assert files.load(mender_backend="http://mender", mender_ca="/none").upstream_trust is None
    insecure = files.load(mender_backend="https://mender", insecure_skip_verify=True, mender_ca="/none")
    assert insecure.upstream_trust is None


def test_the_users_own_ca_is_used(files: Files) -> None:
    assert files.load(mender_backend="https://mender", mender_ca=files.bundle).upstream_trust == files.bundle
    text = files.complaint(mender_backend="https://mender", mender_ca=files.directory / "none")
    assert text.startswith("mender_ca (")
    assert "No such file" in text


def test_else_the_systems(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "_SYSTEM_TRUST", (files.directory / "none", files.bundle, files.key))
    assert files.load(mender_backend="https://mender").upstream_trust == files.bundle
    monkeypatch.setattr(material, "_SYSTEM_TRUST", (files.directory / "none",))
    text = files.complaint(mender_backend="https://mender")
    assert text.startswith("mender_ca: is not set, and this system has no bundle of trusted CAs\n  Install ca-cert")
