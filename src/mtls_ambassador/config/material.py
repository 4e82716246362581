"""The certificates and keys that the settings name, read and judged before Envoy sees them."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtensionOID, NameOID

from mtls_ambassador.config.anchors import Anchor
from mtls_ambassador.config.bundle import ambiguous_names, judge_bundle
from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.x509 import spki

_SYSTEM_TRUST = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),
)
_T = TypeVar("_T")
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate that is well formed on the outside only."""


@dataclass(frozen=True, slots=True)
class Material:
    """Judged key material: what Envoy may be given."""

    server_chain: tuple[x509.Certificate, ...]
    """The edge's own certificate first, then its intermediates."""
    server_names: tuple[str, ...]
    """Host names and addresses the certificate is good for; never with a port."""
    anchors: Mapping[str, tuple[x509.Certificate, ...]]
    """Name of each trust anchor to its CAs, which no other anchor has."""
    upstream_trust: Path | None
    """PEM bundle that verifies the Mender Server; None where nothing is verified."""
    warnings: tuple[str, ...]
    """What is odd but does not stop the edge."""

    @property
    def server_chain_pem(self) -> str:
        """The server certificate and its intermediates as PEM text."""
        return "".join(pem(certificate) for certificate in self.server_chain)

    @property
    def device_cas(self) -> tuple[x509.Certificate, ...]:
        """The trust bundle for devices: the CAs of all anchors."""
        return tuple(ca for cas in self.anchors.values() for ca in cas)

    @property
    def device_ca_pem(self) -> str:
        """The trust bundle as PEM text, without whatever else stood in the file."""
        return "".join(pem(certificate) for certificate in self.device_cas)


def pem(certificate: x509.Certificate) -> str:
    """The certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def load_material(settings: Settings, now: datetime.datetime) -> Material:
    """Read and judge all files at once.

    Args:
        settings: Where the files are.
        now: The current time, with a time zone.

    Raises:
        ConfigurationError: with every problem found: unreadable, not PEM, key and certificate do not belong
            together, server certificate expired, not a CA.
    """
    problems: list[Problem] = []

    def attempt(step: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return step()
        except ConfigurationError as error:
            problems.extend(error.problems)
            return otherwise

    none: tuple[x509.Certificate, ...] = ()
    chain = attempt(lambda: _certificates("server_cert", settings.server_cert), none)
    key = attempt(lambda: _private_key(settings.server_key), None)
    anchors = {
        anchor.name: attempt(functools.partial(_certificates, anchor.where, anchor.ca), none)
        for anchor in settings.anchors
    }
    upstream = attempt(lambda: _upstream_trust(settings), None)
    if chain:
        problems += judge_server_certificate(chain[0], key, settings, now)
    for anchor in settings.anchors:
        for ca in anchors[anchor.name]:
            problems += judge_device_ca(ca, f"{anchor.where} ({anchor.ca})")
    if not problems:
        problems += judge_bundle(settings.anchors, anchors)
    if problems:
        raise ConfigurationError(tuple(problems))
    warnings = _server_warnings(chain[0], settings, now)
    for anchor in settings.anchors:
        warnings += _ca_warnings(anchors[anchor.name], chain, anchor, now)
    warnings += [
        f"several CAs have the subject {name}: their devices' certificates must have authority key identifiers"
        for name in ambiguous_names(anchors)
    ]
    return Material(chain, certificate_names(chain[0]), anchors, upstream, tuple(warnings))


def judge_server_certificate(
    certificate: x509.Certificate, key: PrivateKeyTypes | None, settings: Settings, now: datetime.datetime
) -> list[Problem]:
    """What forbids serving with this certificate and key; `key` is None where it could not be read."""
    subject = f"server_cert ({settings.server_cert})"
    try:
        certificate_names(certificate)
        public_key = certificate.public_key()
    except _UNREADABLE:
        return [Problem(subject, "holds extensions or a key that cannot be read", "Issue a new server certificate.")]
    problems: list[Problem] = []
    if certificate.not_valid_after_utc < now:
        problems.append(
            Problem(
                subject,
                f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
                "Issue a new server certificate.",
            )
        )
    if key is None:
        return problems
    problem = f"server_key ({settings.server_key})"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        problems.append(Problem(problem, f"is RSA with {key.key_size} bits", "Use P-256, Ed25519 or RSA from 2048."))
    elif isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, _CURVES):
        problems.append(Problem(problem, f"is on the curve {key.curve.name}", "Use P-256, P-384 or P-521."))
    elif not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        problems.append(Problem(problem, "is of a kind TLS here cannot use", "Use P-256, Ed25519 or RSA from 2048."))
    elif spki(key.public_key()) != spki(public_key):
        problems.append(
            Problem(
                problem,
                f"does not belong to the certificate in {settings.server_cert}",
                "Give the key that the certificate was issued for (the first certificate in the file counts).",
            )
        )
    return problems


def judge_device_ca(certificate: x509.Certificate, where: str) -> list[Problem]:
    """What forbids trusting this certificate as an issuer of device certificates.

    X.509 v1 certificates, as `openssl req -x509` of OpenSSL before 3.2 makes them, have no extensions and pass. RFC
    5280 section 4.2.1.9 lets a v3 certificate without basic constraints sign nothing, yet Envoy accepts it as a trust
    anchor, and OpenSSL 3.2 and later makes such: only an explicit `CA:FALSE` is refused.
    """
    subject = f"{where}, {certificate.subject.rfc4514_string()}"
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return []
    except _UNREADABLE:
        return [Problem(subject, "holds extensions that cannot be read", "Issue the CA certificate anew.")]
    if constraints.ca:
        return []
    return [Problem(subject, "is not a CA certificate", "Give the certificate of the CA that signs your devices.")]


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Host names and addresses a certificate is good for: its SANs, else its CN (RFC 6125, as Mender's clients do)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    dns = [str(name) for name in names.get_values_for_type(x509.DNSName)]
    return (*dns, *(str(ip) for ip in names.get_values_for_type(x509.IPAddress)))


def _server_warnings(certificate: x509.Certificate, settings: Settings, now: datetime.datetime) -> list[str]:
    subject = f"server_cert {settings.server_cert}"
    warnings: list[str] = []
    if certificate.not_valid_before_utc > now:
        warnings.append(f"{subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    left = certificate.not_valid_after_utc - now
    if datetime.timedelta(0) < left < datetime.timedelta(days=30):
        warnings.append(f"{subject} expires in {left.days} days")
    try:
        certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        warnings.append(f"{subject} has no subject alternative name: Mender's clients take its CN, mender-cli does not")
    try:
        if settings.server_key.stat().st_mode & 0o004:
            warnings.append(f"server_key {settings.server_key} may be read by everybody: chmod 0600 it")
    except OSError:
        pass  # it was read a moment ago; whatever happened since is found at the next reading
    return warnings


def _ca_warnings(
    cas: tuple[x509.Certificate, ...],
    chain: tuple[x509.Certificate, ...],
    anchor: Anchor,
    now: datetime.datetime,
) -> list[str]:
    warnings: list[str] = []
    for ca in cas:
        subject = f"{anchor.where} {anchor.ca}, {ca.subject.rfc4514_string()}"
        if ca.not_valid_after_utc < now:
            warnings.append(f"{subject} expired on {ca.not_valid_after_utc:%Y-%m-%d}: its devices are refused")
        if ca.version is x509.Version.v3 and not _has_basic_constraints(ca) and chain and chain[0].issuer == ca.subject:
            warnings.append(
                f"{subject} is X.509 v3 without CA:TRUE and signed the server certificate: "
                "devices with OpenSSL will refuse it (invalid CA certificate)"
            )
        if not _verifies_devices(ca):
            warnings.append(f"{subject} has a key of a kind that TLS here cannot use: its devices are refused")
    return warnings


def _verifies_devices(ca: x509.Certificate) -> bool:
    try:
        key = ca.public_key()
    except _UNREADABLE:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPublicKey | ed25519.Ed25519PublicKey)


def _has_basic_constraints(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return True


def _upstream_trust(settings: Settings) -> Path | None:
    if not settings.mender_backend.tls or settings.insecure_skip_verify:
        return None
    if settings.mender_ca is not None:
        _certificates("mender_ca", settings.mender_ca)
        return settings.mender_ca
    for bundle in _SYSTEM_TRUST:
        if bundle.is_file():
            return bundle
    raise ConfigurationError(
        (
            Problem(
                "mender_ca",
                "is not set, and this system has no bundle of trusted CAs",
                "Install ca-certificates, or set mender_ca to the PEM file of the CA of your Mender Server.",
            ),
        )
    )


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = f"Check {key}."
        if isinstance(error, PermissionError):
            remedy = "Let the user the edge runs as read it (in the container: chown 65534)."
        elif isinstance(error, FileNotFoundError):
            remedy = f"Set {key} to the right path, or put the file there."
        raise ConfigurationError((Problem(f"{key} ({path})", f"cannot be read: {error.strerror}", remedy),)) from error


def _certificates(key: str, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(_read(key, path)))
    except _UNREADABLE as error:
        raise ConfigurationError(
            (
                Problem(
                    f"{key} ({path})",
                    "holds no certificate that can be read",
                    "Give a PEM file with -----BEGIN CERTIFICATE----- in it, that `openssl x509 -in FILE` can read.",
                ),
            )
        ) from error


def _private_key(path: Path) -> PrivateKeyTypes:
    data = _read("server_key", path)
    what = "holds no private key that can be read"
    remedy = "Give a PEM file with a private key in it; `openssl pkey -in FILE -noout` should read it."
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, TypeError):  # cryptography says so when a passphrase is missing
            what = "is encrypted with a passphrase"
            remedy = "Decrypt it for the edge: openssl pkey -in FILE -out NEW; chmod 0600 NEW."
        raise ConfigurationError((Problem(f"server_key ({path})", what, remedy),)) from error
