"""Name constraints (RFC 5280 section 4.2.1.10), as far as the edge's TLS library knows them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_ambassador.pki.names import canonical

_HOST_LIKE = re.compile(r"(\*\.)?(?!-)[A-Za-z0-9_:-]+(\.(?!-)[A-Za-z0-9_:-]+)*\.?\Z")


def violation(leaf: x509.Certificate, issuers: Iterable[x509.Certificate]) -> str | None:
    """What is wrong with the names of a certificate, in words; None if nothing is.

    The edge's BoringSSL knows constraints on DNS names, e-mail addresses, URIs and directory names. It refuses a
    certificate with a name of another type that is constrained, and one whose common name looks like a host name if
    it has no subjectAltName.

    Args:
        leaf: The certificate.
        issuers: All above it, its trust anchor too.
    """
    constraints = [found for issuer in issuers if (found := _constraints(issuer)) is not None]
    if not constraints:
        return None
    names = _names(leaf)
    if not _san(leaf) and any(
        _HOST_LIKE.match(str(each.value)) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ):
        return "a CA above it has name constraints, and its common name is not repeated in subjectAltName"
    for constraint in constraints:
        for name in names:
            if (wrong := _judge(name, constraint)) is not None:
                return wrong
    return None


def _judge(name: x509.GeneralName, constraints: x509.NameConstraints) -> str | None:
    permitted = [each for each in constraints.permitted_subtrees or () if type(each) is type(name)]
    excluded = [each for each in constraints.excluded_subtrees or () if type(each) is type(name)]
    if not permitted and not excluded:
        return None
    if not isinstance(name, x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier | x509.DirectoryName):
        return f"the name {_text(name)} is of a type whose constraints TLS here does not know"
    if permitted and not any(_within(name, each) for each in permitted):
        return f"the name constraints of a CA above it do not permit {_text(name)}"
    if any(_within(name, each) for each in excluded):
        return f"the name constraints of a CA above it exclude {_text(name)}"
    return None


def _within(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    match name, base:
        case x509.DirectoryName(), x509.DirectoryName():
            return canonical(name.value)[: len(list(base.value.rdns))] == canonical(base.value)
        case x509.DNSName(), x509.DNSName():
            return _domain(name.value, base.value, dots_itself=True)
        case x509.RFC822Name(), x509.RFC822Name():
            if "@" in base.value:
                return name.value.lower() == base.value.lower()
            return _domain(name.value.rpartition("@")[2], base.value, dots_itself=False)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = re.sub(r"^[^:]*://([^/:?#]*).*", r"\1", name.value)
            return _domain(host, base.value, dots_itself=False)
        case _:
            return False


def _domain(host: str, base: str, *, dots_itself: bool) -> bool:
    host, base = host.lower(), base.lower()
    if not base:
        return True
    if base.startswith("."):
        return host.endswith(base)
    return host == base or (dots_itself and host.endswith(f".{base}"))


def _names(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    subject = [x509.DirectoryName(certificate.subject)] if list(certificate.subject) else []
    emails = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return [
        *subject,
        *(x509.RFC822Name(str(each.value)) for each in emails if str(each.value).isascii()),
        *_san(certificate),
    ]


def _san(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _constraints(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _text(name: x509.GeneralName) -> str:
    return name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value)
