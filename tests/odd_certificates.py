"""X.509 oddities as data: what a device shows and what the edge trusts, with what becomes of it.

The real edge (tests/integration) and `pki verify` (tests/unit/pki/test_lint.py) are both held to these verdicts, and
docs/reference/certificates.md is made of them. Each builds its own authorities, so that one edge can trust all at once.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mtls_ambassador.pki import lint
from tests import der
from tests.certificates import CertificateAuthority, Holder, Issuer, new_key, self_signed

ACCEPTED = "accepted"
NOT_SHOWN = "not shown"
"""OpenSSL, which all of Mender's clients use, does not load it, so that no device can show it."""
NOT_STARTED = lint.NOT_STARTED
"""The edge does not start with that in its trust bundle."""

_COMMON_NAME = "2.5.4.3"
_SAN, _BASIC_CONSTRAINTS, _EKU, _KEY_USAGE = b"\x55\x1d\x11", b"\x55\x1d\x13", b"\x55\x1d\x25", b"\x55\x1d\x0f"
_NAME_CONSTRAINTS = b"\x55\x1d\x1e"
_UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")


@dataclass(frozen=True)
class Presented:
    """What a device shows and what the edge trusts, all DER.

    Attributes:
        leaf: The device's certificate.
        key: Its private key, PEM.
        intermediates: What it sends beside.
        anchors: What is in the edge's trust bundle for it.
    """

    leaf: bytes
    key: bytes
    intermediates: tuple[bytes, ...]
    anchors: tuple[bytes, ...]

    @property
    def chain_pem(self) -> bytes:
        """What it presents, PEM."""
        return b"".join(pem(each) for each in (self.leaf, *self.intermediates))


@dataclass(frozen=True)
class Odd:
    """An oddity.

    Attributes:
        name: A slug.
        what: In words, for the table.
        build: Makes it.
        verdict: `accepted`, or the label of the reason that the edge refuses it for; or one of the two below.
        warnings: Codes that `pki verify` warns with, though the edge accepts it.
    """

    name: str
    what: str
    build: Callable[[], Presented]
    verdict: str
    warnings: tuple[str, ...] = ()


def pem(certificate: bytes) -> bytes:
    """A certificate that may be too odd to be parsed, PEM."""
    text = base64.b64encode(certificate)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def _shown(holder: Holder, *anchors: Holder | bytes) -> Presented:
    return Presented(
        holder.der,
        holder.key_pem,
        tuple(each.public_bytes(Encoding.DER) for each in holder.intermediates),
        tuple(each if isinstance(each, bytes) else each.der for each in anchors),
    )


def _leaf(make: Callable[[CertificateAuthority], Holder]) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        return _shown(make(ca), ca)

    return build


def _changed(
    change: Callable[[der.SignedPart], object], make: Callable[[CertificateAuthority], Holder] | None = None
) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        holder = make(ca) if make else ca.device("dev-1")
        return replace(_shown(holder, ca), leaf=der.changed(holder.der, ca.key, change))

    return build


_count = iter(range(1, 1_000_000))


def _authority(**properties: object) -> CertificateAuthority:
    return CertificateAuthority(f"Odd CA {next(_count)}", **properties)  # type: ignore[arg-type]


def _ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _signed_with(algorithm: bytes, ca_key: str) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority(key=ca_key)
        holder = ca.device("dev-1")
        return replace(_shown(holder, ca), leaf=der.SignedPart(holder.der).signed(ca.key, algorithm))

    return build


def _set(field: str, value: bytes) -> Callable[[der.SignedPart], object]:
    return lambda part: setattr(part, field, value)


def _add(*extensions: bytes) -> Callable[[der.SignedPart], object]:
    return lambda part: part.extensions.extend(extensions)


def _swap(oid: bytes, value: bytes) -> Callable[[der.SignedPart], object]:
    def change(part: der.SignedPart) -> None:
        part.extensions = [each for each in part.extensions if der.tlv(der.OID, oid) not in each]
        part.extensions.append(der.extension(oid, value))

    return change


def _version_1(part: der.SignedPart) -> None:
    part.version, part.extensions = b"", []


def _any_key(generate: Callable[[], Any]) -> Callable[[], Presented]:
    # Kinds of key that no builder of ours makes.
    def build() -> Presented:
        ca = _authority()
        private = generate()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev-1")]))
            .issuer_name(ca.certificate.subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_ago(1))
            .not_valid_after(_ago(-30))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        certificate = builder.sign(ca.key, hashes.SHA256())
        key_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Presented(certificate.public_bytes(Encoding.DER), key_pem, (), (ca.der,))

    return build


def _pss_signature() -> Presented:
    ca = _authority(key="rsa2048")
    holder = ca.device("dev-1")
    builder = (
        x509.CertificateBuilder()
        .subject_name(holder.certificate.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(holder.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ago(1))
        .not_valid_after(_ago(-30))
    )
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    certificate = builder.sign(ca.key, hashes.SHA256(), rsa_padding=pss)
    return replace(_shown(holder, ca), leaf=certificate.public_bytes(Encoding.DER))


def _algorithms_differ() -> Presented:
    ca = _authority()
    holder = ca.device("dev-1")
    leaf = der.SignedPart(holder.der).signed(ca.key, der.ECDSA_SHA256, outer=der.ECDSA_SHA1)
    return replace(_shown(holder, ca), leaf=leaf)


def _constrained(
    make: Callable[[Issuer], Holder],
    *,
    permitted: Iterable[x509.GeneralName] | None = None,
    excluded: Iterable[x509.GeneralName] | None = None,
    root: bool = False,
) -> Callable[[], Presented]:
    def build() -> Presented:
        extension = x509.NameConstraints(list(permitted) if permitted else None, list(excluded) if excluded else None)
        if root:
            anchor = _authority(extensions=[(extension, True)])
            return _shown(make(anchor), anchor)
        anchor = _authority()
        return _shown(make(anchor.intermediate("Line 1", extensions=[(extension, True)])), anchor)

    return build


def _under(**properties: object) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        return _shown(ca.intermediate("Line 1", **properties).device("dev-1"), ca)  # type: ignore[arg-type]

    return build


def _of(device: str = "dev-1", **properties: object) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority(**properties)
        return _shown(ca.device(device), ca)

    return build


def _changed_anchor(change: Callable[[der.SignedPart], object], **properties: object) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority(**properties)
        anchor = der.changed(ca.der, ca.key, change)
        return _shown(ca.device("dev-1"), anchor)

    return build


def _changed_intermediate(change: Callable[[der.SignedPart], object]) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        line = ca.intermediate("Line 1")
        shown = _shown(line.device("dev-1"), ca)
        return replace(shown, intermediates=(der.changed(line.der, ca.key, change),))

    return build


def _same_name(*, first: bool, identifiers: bool) -> Callable[[], Presented]:
    def build() -> Presented:
        one = _authority(key_identifiers=identifiers)
        two = CertificateAuthority(subject=one.certificate.subject, key_identifiers=identifiers)
        issuer = one if first else two
        return _shown(issuer.device("dev-1", key_identifiers=identifiers), one, two)

    return build


def _cross_signed(*, sent: str) -> Callable[[], Presented]:
    # One CA key, certified by an authority that the edge trusts and by one that it does not.
    def build() -> Presented:
        trusted, foreign = _authority(), CertificateAuthority("Foreign CA")
        key = new_key()
        ours = trusted.intermediate("Line 1", key=key)
        theirs = foreign.intermediate("Line 1", key=key)
        holder = {"both": ours, "theirs": theirs, "ours": ours}[sent].device("dev-1")
        chains = {"ours": (ours,), "theirs": (theirs,), "both": (theirs, ours)}
        return _shown(replace(holder, intermediates=tuple(each.certificate for each in chains[sent])), trusted)

    return build


def _new_root_cross_signed_by_the_old() -> Presented:
    old = _authority()
    new = _authority()
    bridge = old.intermediate("bridge", key=new.key, subject=new.certificate.subject)
    return _shown(replace(new.device("dev-1"), intermediates=(bridge.certificate,)), old)


def _two_lines(**properties: object) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        plant = ca.intermediate("Plant 1", **properties)  # type: ignore[arg-type]
        return _shown(plant.intermediate("Line 1").device("dev-1"), ca)

    return build


def _path_length_of_root() -> Presented:
    ca = _authority(path_length=0)
    return _shown(ca.intermediate("Line 1").device("dev-1"), ca)


def _other_issuer_name(tag: int, change: Callable[[bytes], bytes]) -> Callable[[], Presented]:
    def build() -> Presented:
        ca = _authority()
        cn = str(ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value).encode()
        holder = ca.device("dev-1")
        issuer = der.name((_COMMON_NAME, tag, change(cn)))
        return replace(_shown(holder, ca), leaf=der.changed(holder.der, ca.key, _set("issuer", issuer)))

    return build


def _foreign(make: Callable[[CertificateAuthority], Holder]) -> Callable[[], Presented]:
    return lambda: _shown(make(CertificateAuthority("Foreign CA")), _authority())


def _pinned(*, self_made: bool) -> Callable[[], Presented]:
    def build() -> Presented:
        holder = self_signed(f"pinned-{next(_count)}") if self_made else _authority().device("dev-1")
        return _shown(holder, holder)

    return build


def _line_as_anchor(**properties: object) -> Presented:
    line = _authority().intermediate(f"Line {next(_count)}", **properties)  # type: ignore[arg-type]
    return _shown(replace(line.device("dev-1"), intermediates=()), line)


def _path_length_of_anchor() -> Presented:
    plant = _authority().intermediate(f"Plant {next(_count)}", path_length=0)
    line = plant.intermediate("Line 1")
    return _shown(replace(line.device("dev-1"), intermediates=(line.certificate,)), plant)


def _pinned_version_1() -> Presented:
    holder = self_signed(f"pinned-{next(_count)}")
    leaf = der.changed(holder.der, holder.key, _version_1)
    return replace(_shown(holder, leaf), leaf=leaf)


def _times(before: bytes, after: bytes) -> Callable[[der.SignedPart], object]:
    return _set("validity", der.tlv(der.SEQUENCE, before, after))


def _utc(text: str) -> bytes:
    return der.tlv(der.UTC_TIME, text.encode())


def _generalized(text: str) -> bytes:
    return der.tlv(der.GENERALIZED_TIME, text.encode())


def _cn(tag: int, octets: bytes) -> Callable[[], Presented]:
    return _changed(_set("subject", der.name((_COMMON_NAME, tag, octets))))


_DNS = x509.DNSName
_IP = x509.IPAddress
_DIRECTORY = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org")]))

ODD_CERTIFICATES: tuple[Odd, ...] = (
    # Names
    Odd("plain", "nothing odd: for comparison", _leaf(lambda ca: ca.device("dev-1")), ACCEPTED),
    Odd(
        "wildcard_cn",
        "common name `*.devices.example.com`",
        _leaf(lambda ca: ca.device("*.devices.example.com")),
        ACCEPTED,
        ("wildcard",),
    ),
    Odd(
        "wildcard_san",
        "subjectAltName `DNS:*.example.com`",
        _leaf(lambda ca: ca.device("dev-1", san=["DNS:*.example.com"])),
        ACCEPTED,
    ),
    Odd(
        "empty_subject",
        "empty subject",
        _leaf(lambda ca: ca.device("", subject=x509.Name([]))),
        ACCEPTED,
        ("empty_subject",),
    ),
    Odd(
        "empty_subject_san",
        "empty subject, names in subjectAltName",
        _leaf(lambda ca: ca.device("", subject=x509.Name([]), san=["DNS:dev-1.example.com"])),
        ACCEPTED,
        ("empty_subject",),
    ),
    Odd(
        "long_cn",
        "common name of 300 characters (RFC 5280: at most 64)",
        _cn(der.UTF8_STRING, b"d" * 300),
        ACCEPTED,
        ("long_common_name",),
    ),
    Odd("utf8_cn", "common name `gerät-Ω-設備`, UTF-8", _leaf(lambda ca: ca.device("gerät-Ω-設備")), ACCEPTED),
    Odd("bmp_cn", "common name as BMPString (UTF-16)", _cn(der.BMP_STRING, "dev-Ω".encode("utf-16-be")), ACCEPTED),
    Odd("t61_cn", "common name as T61String", _cn(der.T61_STRING, b"dev-\xe4"), "certificate_unreadable"),
    Odd("invalid_utf8_cn", "common name that is broken UTF-8", _cn(der.UTF8_STRING, b"dev-\xff\xfe"), NOT_SHOWN),
    Odd(
        "nul_cn",
        "common name with a NUL in it",
        _cn(der.UTF8_STRING, b"dev-1\0.evil"),
        ACCEPTED,
        ("unprintable_common_name",),
    ),
    Odd(
        "printable_cn_with_star",
        "PrintableString with a character that it may not have",
        _cn(der.PRINTABLE_STRING, b"dev_*@1"),
        "certificate_unreadable",
    ),
    Odd("empty_cn", "empty common name", _cn(der.UTF8_STRING, b""), ACCEPTED, ("odd_common_name",)),
    Odd(
        "two_cns",
        "two common names",
        _changed(
            _set(
                "subject",
                der.name((_COMMON_NAME, der.UTF8_STRING, b"dev-1"), (_COMMON_NAME, der.UTF8_STRING, b"dev-2")),
            )
        ),
        ACCEPTED,
        ("odd_common_name",),
    ),
    Odd(
        "many_names",
        "a hundred names in subjectAltName",
        _leaf(lambda ca: ca.device("dev-1", san=[f"DNS:d{n}.example.com" for n in range(100)])),
        ACCEPTED,
    ),
    # Serial numbers
    Odd(
        "negative_serial",
        "negative serial number",
        _changed(_set("serial", der.integer(b"\xff\x12"))),
        ACCEPTED,
        ("odd_serial",),
    ),
    Odd("zero_serial", "serial number 0", _changed(_set("serial", der.integer(b"\0"))), ACCEPTED, ("odd_serial",)),
    Odd("one_serial", "serial number 1", _leaf(lambda ca: ca.device("dev-1", serial=1)), ACCEPTED),
    Odd(
        "long_serial",
        "serial number of 30 octets (RFC 5280: at most 20)",
        _changed(_set("serial", der.integer(b"\x11" * 30))),
        ACCEPTED,
        ("odd_serial",),
    ),
    Odd(
        "padded_serial",
        "serial number with a needless leading zero octet (not DER)",
        _changed(_set("serial", der.integer(b"\0\x11"))),
        NOT_SHOWN,
    ),
    # Keys and signatures
    Odd("sha1", "signed with SHA-1 (ECDSA)", _signed_with(der.ECDSA_SHA1, "p256"), ACCEPTED, ("weak_signature",)),
    Odd("sha1_rsa", "signed with SHA-1 (RSA)", _signed_with(der.RSA_SHA1, "rsa2048"), ACCEPTED, ("weak_signature",)),
    Odd("md5_rsa", "signed with MD5", _signed_with(der.RSA_MD5, "rsa2048"), "bad_certificate_signature"),
    Odd("pss", "signed with RSA-PSS", _pss_signature, ACCEPTED, ("no_purpose",)),
    Odd(
        "rsa1024", "RSA key of 1024 bits", _leaf(lambda ca: ca.device("dev-1", key="rsa1024")), ACCEPTED, ("weak_key",)
    ),
    Odd("rsa2048", "RSA key of 2048 bits", _leaf(lambda ca: ca.device("dev-1", key="rsa2048")), ACCEPTED),
    Odd(
        "rsa_exponent_3",
        "RSA key with the exponent 3",
        _any_key(lambda: rsa.generate_private_key(3, 2048)),
        ACCEPTED,
        (
            "no_purpose",
            "weak_exponent",
        ),
    ),
    Odd("p521", "key on P-521", _leaf(lambda ca: ca.device("dev-1", key="p521")), ACCEPTED),
    Odd(
        "p224", "key on P-224", _any_key(lambda: ec.generate_private_key(ec.SECP224R1())), "unsupported_certificate_key"
    ),
    Odd(
        "secp256k1",
        "key on secp256k1",
        _leaf(lambda ca: ca.device("dev-1", key="secp256k1")),
        "unsupported_certificate_key",
    ),
    Odd("ed25519", "Ed25519 key", _leaf(lambda ca: ca.device("dev-1", key="ed25519")), ACCEPTED),
    Odd("ed448", "Ed448 key", _any_key(ed448.Ed448PrivateKey.generate), "no_certificate"),
    Odd("dsa", "DSA key", _any_key(lambda: dsa.generate_private_key(2048)), "no_certificate"),
    Odd(
        "algorithms_differ",
        "one signature algorithm inside, another outside",
        _algorithms_differ,
        "bad_certificate_signature",
    ),
    # Extensions
    Odd(
        "duplicate_san",
        "two subjectAltName extensions",
        _changed(
            _add(der.extension(_SAN, der.tlv(0x30, b"\x82\x01a")), der.extension(_SAN, der.tlv(0x30, b"\x82\x01b")))
        ),
        NOT_SHOWN,
    ),
    Odd(
        "duplicate_unknown",
        "an unknown extension twice",
        _changed(_add(*[der.extension(b"\x2b\x06\x01\x04\x01\x81\xfd\x59\x01", b"\x05\0")] * 2)),
        "certificate_unreadable",
    ),
    Odd(
        "unknown_critical",
        "unknown critical extension",
        _leaf(lambda ca: ca.device("dev-1", extensions=[(_UNKNOWN, True)])),
        "critical_extension",
    ),
    Odd(
        "unknown_extension",
        "unknown extension, not critical",
        _leaf(lambda ca: ca.device("dev-1", extensions=[(_UNKNOWN, False)])),
        ACCEPTED,
    ),
    Odd(
        "garbage_san",
        "subjectAltName that cannot be parsed",
        _changed(_add(der.extension(_SAN, b"\x30\x7fgarbage"))),
        NOT_SHOWN,
    ),
    Odd(
        "garbage_basic_constraints",
        "basicConstraints that cannot be parsed",
        _changed(_swap(_BASIC_CONSTRAINTS, b"\x30\x7fgarbage")),
        NOT_SHOWN,
    ),
    Odd("empty_eku", "extendedKeyUsage without a purpose", _changed(_swap(_EKU, der.tlv(0x30))), "wrong_purpose"),
    Odd(
        "no_extensions",
        "no extensions, X.509 version 3",
        _changed(lambda part: part.extensions.clear()),
        ACCEPTED,
        ("no_purpose",),
    ),
    Odd(
        "version_1",
        "X.509 version 1, as the openssl of Mender's document makes it",
        _changed(_version_1),
        ACCEPTED,
        ("no_purpose",),
    ),
    Odd(
        "version_1_with_extensions",
        "X.509 version 1 with extensions",
        _changed(_set("version", b"")),
        "handshake_failed",
    ),
    Odd(
        "version_4",
        "X.509 version 4, which does not exist",
        _changed(_set("version", der.tlv(der.VERSION, der.integer(b"\x03")))),
        "handshake_failed",
    ),
    # Purposes
    Odd("no_purpose", "no extendedKeyUsage", _leaf(lambda ca: ca.device("dev-1", eku=None)), ACCEPTED, ("no_purpose",)),
    Odd(
        "both_purposes",
        "purposes clientAuth and serverAuth",
        _leaf(lambda ca: ca.device("dev-1", eku=("clientAuth", "serverAuth"))),
        ACCEPTED,
    ),
    Odd(
        "server_auth",
        "purpose serverAuth alone",
        _leaf(lambda ca: ca.device("dev-1", eku=("serverAuth",))),
        "wrong_purpose",
    ),
    Odd(
        "any_purpose",
        "purpose anyExtendedKeyUsage alone",
        _leaf(lambda ca: ca.device("dev-1", eku=("any",))),
        "wrong_purpose",
    ),
    Odd(
        "any_purpose_too",
        "purposes anyExtendedKeyUsage and clientAuth",
        _leaf(lambda ca: ca.device("dev-1", eku=("any", "clientAuth"))),
        ACCEPTED,
    ),
    Odd(
        "code_signing",
        "purpose codeSigning alone",
        _leaf(lambda ca: ca.device("dev-1", eku=("codeSigning",))),
        "wrong_purpose",
    ),
    Odd("no_key_usage", "no keyUsage", _leaf(lambda ca: ca.device("dev-1", key_usage=None)), ACCEPTED),
    Odd(
        "key_agreement",
        "keyUsage keyAgreement alone",
        _leaf(lambda ca: ca.device("dev-1", key_usage=("keyAgreement",))),
        "wrong_purpose",
    ),
    Odd(
        "key_encipherment",
        "keyUsage keyEncipherment alone (RSA)",
        _leaf(lambda ca: ca.device("dev-1", key="rsa2048", key_usage=("keyEncipherment",))),
        "wrong_purpose",
    ),
    Odd(
        "leaf_with_cert_sign",
        "keyUsage keyCertSign though no CA",
        _leaf(lambda ca: ca.device("dev-1", key_usage=("digitalSignature", "keyCertSign"))),
        ACCEPTED,
        ("cert_sign",),
    ),
    Odd(
        "ca_true",
        "a device's certificate with CA:TRUE",
        _leaf(lambda ca: ca.device("dev-1", ca=True)),
        "ca_certificate",
    ),
    # Times
    Odd("expired", "expired", _leaf(lambda ca: ca.device("dev-1", not_before=_ago(2), not_after=_ago(1))), "expired"),
    Odd("not_yet_valid", "not valid yet", _leaf(lambda ca: ca.device("dev-1", not_before=_ago(-1))), "not_yet_valid"),
    Odd(
        "never_expires",
        "valid until 9999-12-31 (RFC 5280: no end)",
        _leaf(lambda ca: ca.device("dev-1", not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))),
        ACCEPTED,
    ),
    Odd(
        "ends_before_it_begins",
        "ends before it begins",
        _changed(_times(_utc("300101000000Z"), _utc("200101000000Z"))),
        "not_yet_valid",
    ),
    Odd(
        "generalized_time_early",
        "a year before 2050 as GeneralizedTime",
        _changed(_times(_generalized("20200101000000Z"), _generalized("20400101000000Z"))),
        ACCEPTED,
    ),
    Odd(
        "time_without_seconds",
        "a time without seconds",
        _changed(_times(_utc("2001010000Z"), _utc("4001010000Z"))),
        "handshake_failed",
    ),
    # Who signed it
    Odd("self_signed", "signed by its own key", lambda: _shown(self_signed(), _authority()), "self_signed"),
    Odd("unknown_ca", "signed by another CA", _foreign(lambda ca: ca.device("dev-1")), "unknown_ca"),
    Odd(
        "forged",
        "names the CA as its issuer, signed by another key",
        _leaf(lambda ca: ca.impostor().device("dev-1")),
        "bad_certificate_signature",
    ),
    Odd(
        "other_key_identifier",
        "authorityKeyIdentifier of another key",
        _leaf(
            lambda ca: ca.device(
                "dev-1",
                key_identifiers=False,
                extensions=[(x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None), False)],
            )
        ),
        "unknown_ca",
    ),
    Odd(
        "no_key_identifiers",
        "no key identifiers",
        _leaf(lambda ca: ca.device("dev-1", key_identifiers=False)),
        ACCEPTED,
    ),
    Odd(
        "issuer_in_capitals",
        "the issuer's name in other letter case",
        _other_issuer_name(der.UTF8_STRING, bytes.upper),
        ACCEPTED,
    ),
    Odd(
        "issuer_as_printable",
        "the issuer's name in another string type",
        _other_issuer_name(der.PRINTABLE_STRING, bytes),
        ACCEPTED,
    ),
    Odd("pinned_self_signed", "self-signed, and itself in the trust bundle", _pinned(self_made=True), NOT_STARTED),
    Odd(
        "pinned_version_1",
        "self-signed, of X.509 version 1, and itself in the trust bundle",
        _pinned_version_1,
        "ca_certificate",
    ),
    Odd(
        "intermediate_as_anchor_server_purpose",
        "the trust bundle has an intermediate with the purpose serverAuth, not its root",
        lambda: _line_as_anchor(eku=("serverAuth",)),
        ACCEPTED,
    ),
    Odd(
        "intermediate_as_anchor_path_length",
        "the trust bundle has an intermediate of path length 0, and there is another below",
        _path_length_of_anchor,
        ACCEPTED,
    ),
    Odd("pinned", "itself in the trust bundle, its CA not", _pinned(self_made=False), NOT_STARTED),
    # Intermediates
    Odd("intermediate", "an intermediate, sent along", _under(), ACCEPTED),
    Odd(
        "intermediate_not_sent",
        "an intermediate, not sent",
        lambda: replace(_under()(), intermediates=()),
        "unknown_ca",
    ),
    Odd("intermediate_as_anchor", "the trust bundle has the intermediate, not its root", _line_as_anchor, ACCEPTED),
    Odd(
        "intermediate_expired", "expired intermediate", _under(not_before=_ago(2), not_after=_ago(1)), "issuer_expired"
    ),
    Odd(
        "intermediate_not_yet_valid",
        "an intermediate that is not valid yet",
        _under(not_before=_ago(-1)),
        "issuer_not_yet_valid",
    ),
    Odd("intermediate_not_ca", "an intermediate with CA:FALSE", _under(ca=False), "unknown_ca"),
    Odd("intermediate_without_constraints", "an intermediate without basicConstraints", _under(ca=None), "unknown_ca"),
    Odd(
        "intermediate_version_1", "an intermediate of X.509 version 1", _changed_intermediate(_version_1), "unknown_ca"
    ),
    Odd(
        "intermediate_without_cert_sign",
        "an intermediate whose keyUsage lacks keyCertSign",
        _under(key_usage=("digitalSignature",)),
        "unknown_ca",
    ),
    Odd(
        "intermediate_server_purpose",
        "an intermediate with the purpose serverAuth",
        _under(eku=("serverAuth",)),
        "wrong_purpose",
    ),
    Odd(
        "intermediate_client_purpose",
        "an intermediate with the purpose clientAuth",
        _under(eku=("clientAuth",)),
        ACCEPTED,
    ),
    Odd(
        "intermediate_any_purpose",
        "an intermediate with the purpose anyExtendedKeyUsage",
        _under(eku=("any",)),
        "wrong_purpose",
    ),
    Odd(
        "intermediate_unknown_critical",
        "an intermediate with an unknown critical extension",
        _under(extensions=[(_UNKNOWN, True)]),
        "critical_extension",
    ),
    Odd(
        "intermediate_rsa1024",
        "an intermediate with an RSA key of 1024 bits",
        _under(key="rsa1024"),
        ACCEPTED,
        ("weak_key",),
    ),
    Odd(
        "path_length_of_root",
        "the root's path length is 0, and there is an intermediate",
        _path_length_of_root,
        ACCEPTED,
    ),
    Odd(
        "path_length_of_intermediate",
        "an intermediate of path length 0 with another below",
        _two_lines(path_length=0),
        "handshake_failed",
    ),
    Odd(
        "path_length_enough", "an intermediate of path length 1 with another below", _two_lines(path_length=1), ACCEPTED
    ),
    Odd(
        "cross_signed_ours",
        "cross-signed intermediate, our certificate of it sent",
        _cross_signed(sent="ours"),
        ACCEPTED,
    ),
    Odd(
        "cross_signed_theirs",
        "cross-signed intermediate, only the foreign certificate of it sent",
        _cross_signed(sent="theirs"),
        "unknown_ca",
    ),
    Odd(
        "cross_signed_both",
        "cross-signed intermediate, both sent, the foreign one first",
        _cross_signed(sent="both"),
        "unknown_ca",
    ),
    Odd(
        "new_root_by_the_old",
        "a new root, signed by the old root that the edge trusts",
        _new_root_cross_signed_by_the_old,
        ACCEPTED,
    ),
    # Name constraints
    Odd(
        "permitted_name",
        "name constraints permit `example.com`, the device is in it",
        _constrained(lambda ca: ca.device("dev-1", san=["DNS:dev-1.example.com"]), permitted=[_DNS("example.com")]),
        ACCEPTED,
    ),
    Odd(
        "not_permitted_name",
        "name constraints permit `example.com`, the subjectAltName is elsewhere",
        _constrained(lambda ca: ca.device("dev-1", san=["DNS:dev-1.example.org"]), permitted=[_DNS("example.com")]),
        "handshake_failed",
    ),
    Odd(
        "constrained_without_names",
        "name constraints, a common name that looks like a host name, and no subjectAltName",
        _constrained(lambda ca: ca.device("dev-1.example.com"), permitted=[_DNS("example.com")]),
        "handshake_failed",
    ),
    Odd(
        "plain_cn_constrained",
        "name constraints permit `example.com`, the common name is no host name",
        _constrained(lambda ca: ca.device("device 1"), permitted=[_DNS("example.com")]),
        ACCEPTED,
    ),
    Odd(
        "excluded_name",
        "name constraints exclude `example.com`, the device is in it",
        _constrained(lambda ca: ca.device("dev-1", san=["DNS:dev-1.example.com"]), excluded=[_DNS("example.com")]),
        "handshake_failed",
    ),
    Odd(
        "permitted_directory",
        "name constraints permit O=Org, the subject begins with it",
        _constrained(
            lambda ca: ca.device(
                "", subject=x509.Name([*_DIRECTORY.value, x509.NameAttribute(NameOID.COMMON_NAME, "device 1")])
            ),
            permitted=[_DIRECTORY],
        ),
        ACCEPTED,
    ),
    Odd(
        "not_permitted_directory",
        "name constraints permit O=Org, the subject lacks it",
        _constrained(lambda ca: ca.device("device 1"), permitted=[_DIRECTORY]),
        "handshake_failed",
    ),
    Odd(
        "address_constraint",
        "name constraints on addresses, the device has an address",
        _constrained(
            lambda ca: ca.device("dev-1", san=["IP:10.0.0.1"]), permitted=[_IP(ipaddress.ip_network("10.0.0.0/8"))]
        ),
        "handshake_failed",
    ),
    Odd(
        "address_constraint_unused",
        "name constraints on addresses, the device has none",
        _constrained(lambda ca: ca.device("device 1"), permitted=[_IP(ipaddress.ip_network("10.0.0.0/8"))]),
        ACCEPTED,
    ),
    Odd(
        "constrained_root",
        "name constraints in the root exclude the device's name",
        _constrained(
            lambda ca: ca.device("dev-1", san=["DNS:dev-1.example.com"]), excluded=[_DNS("example.com")], root=True
        ),
        "handshake_failed",
    ),
    # Trust anchors
    Odd(
        "ca_version_1",
        "CA of X.509 version 1, as the openssl of Mender's document makes it",
        _changed_anchor(_version_1),
        ACCEPTED,
    ),
    Odd(
        "ca_without_constraints",
        "CA of version 3 without basicConstraints (openssl 3.2 and later)",
        _of(ca=None, key_usage=None),
        ACCEPTED,
    ),
    Odd("ca_expired", "expired CA", _of(not_before=_ago(2), not_after=_ago(1)), "issuer_expired"),
    Odd("ca_not_yet_valid", "CA that is not valid yet", _of(not_before=_ago(-1)), "issuer_not_yet_valid"),
    Odd("ca_without_cert_sign", "CA whose keyUsage lacks keyCertSign", _of(key_usage=("cRLSign",)), "unknown_ca"),
    Odd("ca_server_purpose", "CA with the purpose serverAuth", _of(eku=("serverAuth",)), ACCEPTED),
    Odd("ca_unknown_critical", "CA with an unknown critical extension", _of(extensions=[(_UNKNOWN, True)]), ACCEPTED),
    Odd("ca_rsa1024", "CA with an RSA key of 1024 bits", _of(key="rsa1024"), ACCEPTED),
    Odd("ca_secp256k1", "CA with a key on secp256k1", _of(key="secp256k1"), "unsupported_certificate_key"),
    Odd(
        "ca_path_length_0",
        "CA of path length 0, which signed the device's certificate itself",
        _of(path_length=0),
        ACCEPTED,
    ),
    Odd("ca_empty_name", "CA with an empty name", _of(subject=x509.Name([])), ACCEPTED),
    Odd(
        "ca_negative_serial",
        "CA with a negative serial number",
        _changed_anchor(_set("serial", der.integer(b"\xff\x12"))),
        ACCEPTED,
    ),
    Odd(
        "same_name_first",
        "two CAs of one name with key identifiers, signed by the first in the bundle",
        _same_name(first=True, identifiers=True),
        ACCEPTED,
    ),
    Odd(
        "same_name_second",
        "two CAs of one name with key identifiers, signed by the second",
        _same_name(first=False, identifiers=True),
        ACCEPTED,
    ),
    Odd(
        "same_name_bare_first",
        "two CAs of one name without key identifiers, signed by the first",
        _same_name(first=True, identifiers=False),
        NOT_STARTED,
    ),
    Odd(
        "same_name_bare_second",
        "two CAs of one name without key identifiers, signed by the second",
        _same_name(first=False, identifiers=False),
        NOT_STARTED,
    ),
)
