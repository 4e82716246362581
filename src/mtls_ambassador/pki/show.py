"""What is in a certificate, key, request or revocation list, for a person or a script. Never a private key."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from mtls_ambassador.pki.entries import key_text, serial_text
from mtls_ambassador.pki.pem import Block, Content
from mtls_ambassador.pki.revocation import revocations_in
from mtls_ambassador.printable import escaped
from mtls_ambassador.x509 import fingerprint

Facts = Mapping[str, object]
"""Text, numbers, lists and mappings, as JSON has them."""

MOST = 20
"""Entries of a revocation list that are written out for a person."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def describe(block: Block) -> Facts:
    """The facts of one block. What cannot be parsed is said to be so."""
    kind: dict[str, object] = {"type": block.content.value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities are for pki verify to tell
        try:
            return {**kind, **_describe(block)}
        except _UNREADABLE as error:
            return {**kind, "unreadable": str(error) or type(error).__name__}


def text(facts: Facts, indent: str = "") -> str:
    """Facts as lines for a person, without an end of line; nothing in them controls a terminal."""
    lines = []
    for key, value in facts.items():
        label = f"{indent}{escaped(key.replace('_', ' '))}:"
        if isinstance(value, Mapping):
            lines += [label, text(value, indent + "  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines.append(f"{label} {escaped(', '.join(_item(each) for each in value[:MOST])) or 'none'}")
            if len(value) > MOST:
                lines.append(f"{indent}  and {len(value) - MOST} more")
        else:
            lines.append(f"{label} {escaped(value)}")
    return "\n".join(lines)


def _item(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(each) for each in value.values())
    return str(value)


def _describe(block: Block) -> Facts:
    match block.content:
        case Content.CERTIFICATE:
            return _certificate(x509.load_der_x509_certificate(block.der))
        case Content.REQUEST:
            return _request(x509.load_der_x509_csr(block.der))
        case Content.CRL:
            return _crl(x509.load_der_x509_crl(block.der))
        case Content.PUBLIC_KEY:
            return _key(load_der_public_key(block.der))
        case Content.PRIVATE_KEY:
            return _key(load_der_private_key(block.der, None).public_key())
        case Content.ENCRYPTED_KEY:
            return {"note": "only its passphrase opens it"}
        case _:
            return {"label": block.label}


def _certificate(certificate: x509.Certificate) -> Facts:
    return {
        "version": certificate.version.value + 1,
        "serial": serial_text(certificate.serial_number),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": _time(certificate.not_valid_before_utc),
        "not_after": _time(certificate.not_valid_after_utc),
        **_key(certificate.public_key()),
        "signature": _algorithm(certificate.signature_algorithm_oid),
        "extensions": _extensions(certificate.extensions),
        "fingerprint_sha256": fingerprint(certificate),
    }


def _request(request: x509.CertificateSigningRequest) -> Facts:
    return {
        "subject": request.subject.rfc4514_string(),
        **_key(request.public_key()),
        "signature": _algorithm(request.signature_algorithm_oid),
        "signature_valid": request.is_signature_valid,
        "extensions": _extensions(request.extensions),
    }


def _crl(crl: x509.CertificateRevocationList) -> Facts:
    next_update = crl.next_update_utc
    return {
        "issuer": crl.issuer.rfc4514_string(),
        "last_update": _time(crl.last_update_utc),
        "next_update": _time(next_update) if next_update else "none",
        "signature": _algorithm(crl.signature_algorithm_oid),
        "extensions": _extensions(crl.extensions),
        "entries": len(crl),
        "revoked": [
            {"serial": each.serial, "at": _time(each.at), "reason": each.reason.value} for each in revocations_in(crl)
        ],
    }


def _key(key: PublicKeyTypes) -> Facts:
    if isinstance(key, rsa.RSAPublicKey):
        kind = f"RSA, {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind = f"EC, {key.curve.name}"
    else:
        kind = type(key).__name__.removeprefix("_").removesuffix("PublicKey")
    return {"key": kind, "key_sha256": key_text(key)}


def _extensions(extensions: x509.Extensions) -> Facts:
    return {f"{_name(each.oid)}{' (critical)' if each.critical else ''}": _value(each.value) for each in extensions}


def _value(value: x509.ExtensionType) -> object:
    match value:
        case x509.BasicConstraints():
            length = "" if value.path_length is None else f", path length {value.path_length}"
            return f"CA: {str(value.ca).upper()}{length}"
        case x509.KeyUsage():
            return [label for flag, label in _USAGES.items() if getattr(value, flag)]
        case x509.ExtendedKeyUsage():
            return [_name(each) for each in value]
        case x509.SubjectAlternativeName():
            return [_general_name(each) for each in value]
        case x509.SubjectKeyIdentifier():
            return value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            return value.key_identifier.hex() if value.key_identifier else "issuer and serial number"
        case x509.NameConstraints():
            permitted = [_general_name(each) for each in value.permitted_subtrees or ()]
            return {"permitted": permitted, "excluded": [_general_name(each) for each in value.excluded_subtrees or ()]}
        case x509.CRLNumber():
            return value.crl_number
        case x509.UnrecognizedExtension():
            return value.value.hex()
        case _:
            return value.public_bytes().hex()


def _general_name(name: x509.GeneralName) -> str:
    kinds = {x509.DNSName: "DNS", x509.IPAddress: "IP", x509.UniformResourceIdentifier: "URI", x509.RFC822Name: "email"}
    if isinstance(name, x509.DirectoryName):
        return f"dirName:{name.value.rfc4514_string()}"
    return f"{kinds.get(type(name), type(name).__name__)}:{name.value}"


def _algorithm(oid: x509.ObjectIdentifier) -> str:
    return _name(oid)


def _name(oid: x509.ObjectIdentifier) -> str:
    known = getattr(oid, "_name", "Unknown OID")
    return oid.dotted_string if known == "Unknown OID" else str(known)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
