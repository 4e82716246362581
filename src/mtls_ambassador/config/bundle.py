"""Whether the CAs of all trust anchors can stand in one bundle: for Envoy, and to tell whose a device is. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mtls_ambassador.config.anchors import Anchor
from mtls_ambassador.config.errors import Problem
from mtls_ambassador.x509 import spki

_UNUSABLE = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature)
Found = Mapping[str, Sequence[x509.Certificate]]
"""Name of a trust anchor to the certificates in its file."""


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s key made the signature of `certificate` (RFC 5280 section 4.1.1.3).

    Names are left out: TLS libraries compare them each in their own way (case, spaces, string types), and it is the key
    that counts. X.509 v1 will do.
    """
    try:
        key = issuer.public_key()
        digest, signed, signature = (
            certificate.signature_hash_algorithm,
            certificate.tbs_certificate_bytes,
            certificate.signature,
        )
        parameters = certificate.signature_algorithm_parameters
        match key, parameters:
            case rsa.RSAPublicKey(), padding.PKCS1v15() | padding.PSS() if digest is not None:
                key.verify(signature, signed, parameters, digest)
            case ec.EllipticCurvePublicKey(), ec.ECDSA():
                key.verify(signature, signed, parameters)
            case ed25519.Ed25519PublicKey(), None:
                key.verify(signature, signed)
            case _:
                return False
    except _UNUSABLE:
        return False
    return True


def judge_bundle(anchors: Sequence[Anchor], found: Found) -> list[Problem]:
    """What forbids to trust all these CAs at once.

    Args:
        anchors: All of them.
        found: Their certificates.
    """
    where = {anchor.name: f"{anchor.where} ({anchor.ca})" for anchor in anchors}
    return [*_confused(where, found), *_shared(where, found), *_nested(where, found)]


def ambiguous_names(found: Found) -> list[str]:
    """Subjects that several keys have, each with its key identifier: right, if device certificates name theirs."""
    groups = _by_subject(found)
    return [cas[0][1].subject.rfc4514_string() for cas in groups if _keys(cas) > 1 and not _confusable(cas)]


def _confused(where: Mapping[str, str], found: Found) -> Iterator[Problem]:
    """Envoy takes the first CA of the subject, unless key identifiers (RFC 5280 section 4.2.1.1) tell it better."""
    for cas in _by_subject(found):
        if _keys(cas) > 1 and _confusable(cas):
            places = " and ".join(dict.fromkeys(where[name] for name, _ in cas))
            subject = cas[0][1].subject.rfc4514_string()
            yield Problem(
                places,
                f"holds two CAs of the subject {subject} with different keys, not all of them with a key identifier: "
                "devices of one of them would be refused",
                "Give the new CA another subject, or leave the old one out.",
            )


def _shared(where: Mapping[str, str], found: Found) -> Iterator[Problem]:
    owners: dict[bytes, str] = {}
    for name, ca in _all(found):
        owner = owners.setdefault(_key(ca), name)
        if owner != name:
            yield Problem(
                where[name],
                f"holds {ca.subject.rfc4514_string()}, whose key is in {where[owner]} too: its devices would belong to "
                "both anchors",
                "Leave it in one of them. Two lines of one root are two anchors with the line's intermediate each.",
            )


def _nested(where: Mapping[str, str], found: Found) -> Iterator[Problem]:
    for (name, ca), (above, issuer) in itertools.permutations(_all(found), 2):
        if name != above and _key(ca) != _key(issuer) and signed_by(ca, issuer):
            yield Problem(
                where[name],
                f"holds {ca.subject.rfc4514_string()}, which was signed by {issuer.subject.rfc4514_string()} in "
                f"{where[above]}: its devices would belong to both anchors",
                f"Leave the upper one out of {where[above]}; the intermediates that its devices have suffice there.",
            )


def _all(found: Found) -> list[tuple[str, x509.Certificate]]:
    return [(name, ca) for name, cas in found.items() for ca in cas]


def _by_subject(found: Found) -> list[list[tuple[str, x509.Certificate]]]:
    groups: dict[object, list[tuple[str, x509.Certificate]]] = defaultdict(list)
    for name, ca in _all(found):
        groups[_comparable(ca.subject)].append((name, ca))
    return list(groups.values())


def _comparable(name: x509.Name) -> object:
    """A name as TLS libraries compare it (RFC 5280 section 7.1): without regard to case and spaces."""
    return tuple(
        frozenset((item.oid, " ".join(str(item.value).split()).casefold()) for item in rdn) for rdn in name.rdns
    )


def _keys(cas: Sequence[tuple[str, x509.Certificate]]) -> int:
    return len({_key(ca) for _, ca in cas})


def _confusable(cas: Sequence[tuple[str, x509.Certificate]]) -> bool:
    identifiers = {_key(ca): _key_identifier(ca) for _, ca in cas}
    return None in identifiers.values() or len(set(identifiers.values())) < len(identifiers)


def _key(ca: x509.Certificate) -> bytes:
    try:
        return spki(ca.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return ca.public_bytes(serialization.Encoding.DER)  # no certificate verifies with such a key


def _key_identifier(ca: x509.Certificate) -> bytes | None:
    try:
        return ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
