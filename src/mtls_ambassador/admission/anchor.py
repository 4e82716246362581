"""Which trust anchor a device's certificate belongs to, and whose name that lets the edge use."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.config.anchors import Anchor
from mtls_ambassador.config.bundle import Found, signed_by
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.x509 import fingerprint

_REMEMBERED = 100_000
_MOST_PRESENTED = 16
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class Anchors:
    """Finds the anchor of a certificate that Envoy verified against the bundle of all, and remembers it.

    Args:
        anchors: All of them.
        found: Their CAs; no key is in two of them (`config.bundle.judge_bundle`).
    """

    def __init__(self, anchors: Sequence[Anchor], found: Found) -> None:
        self._anchors = {anchor.name: anchor for anchor in anchors}
        self._known: OrderedDict[str, str] = OrderedDict()
        self._found: Found = {}
        self.trust(found)

    def trust(self, found: Found) -> None:
        """Decide by these CAs from now on, as Envoy does."""
        self._found = found
        self._known.clear()

    @property
    def several(self) -> bool:
        """Whether there is anything to find out."""
        return len(self._anchors) > 1

    def for_certificate(self, certificate: PeerCertificate, presented: str) -> Anchor:
        """The anchor that `certificate` belongs to.

        Args:
            certificate: One that Envoy verified.
            presented: What the device presented in the handshake, URL-encoded PEM: that certificate, and maybe
                intermediates.

        Raises:
            Refused: `anchor_unknown`; the certificate's signature leads to no anchor, or to several.
        """
        if not self.several:
            (only,) = self._anchors.values()
            return only
        name = self._known.get(certificate.fingerprint)
        if name is None:
            name = self._find(certificate, presented)
            self._known[certificate.fingerprint] = name
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(certificate.fingerprint)
        return self._anchors[name]

    def _find(self, certificate: PeerCertificate, presented: str) -> str:
        chain = read_presented(presented)
        leaves = [item for item in chain if fingerprint(item) == certificate.fingerprint]
        names = find_anchors(leaves[0], chain, self._found) if leaves else frozenset()
        if len(names) != 1:
            among = f", but to {' and '.join(sorted(names))}" if names else ""
            raise Refused(RefusalReason.ANCHOR_UNKNOWN, f"issuer {certificate.issuer} leads to no one anchor{among}")
        (name,) = names
        return name


def find_anchors(leaf: x509.Certificate, presented: Sequence[x509.Certificate], found: Found) -> frozenset[str]:
    """The anchors that a certificate's signatures lead to; the nearest configured CA on each path counts.

    Envoy has verified the chain (dates, path lengths, purposes). What is left is whose it is: by signatures, over
    intermediates that are CAs.

    Args:
        leaf: A device's.
        presented: Intermediates that may stand between it and a configured CA.
        found: The anchors' CAs.
    """
    names: set[str] = set()
    paths, left = [leaf], [item for item in presented if item != leaf and _may_issue(item)]
    while paths:
        certificate = paths.pop()
        owner = _owner(certificate, found)
        if owner is not None:
            names.add(owner)
        else:
            above = [item for item in left if signed_by(certificate, item)]
            left = [item for item in left if item not in above]
            paths += above
    return frozenset(names)


def _owner(certificate: x509.Certificate, found: Found) -> str | None:
    """The anchor whose CA signed it; no key is in two of them. The name only says whom to try first."""
    cas = [(name, ca) for name, several in found.items() for ca in several]
    cas.sort(key=lambda item: item[1].subject != certificate.issuer)
    return next((name for name, ca in cas if signed_by(certificate, ca)), None)


def read_presented(header: str) -> list[x509.Certificate]:
    """The certificates in URL-encoded PEM text, without any that cannot be read."""
    certificates: list[x509.Certificate] = []
    for block in _PEM.findall(unquote_to_bytes(header))[:_MOST_PRESENTED]:
        try:
            certificates.append(x509.load_pem_x509_certificate(block))
        except _UNREADABLE:
            continue
    return certificates


def _may_issue(certificate: x509.Certificate) -> bool:
    """Whether it is a CA (RFC 5280 sections 4.2.1.3, 4.2.1.9): a device's own certificate must not vouch for others."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid
    except _UNREADABLE:
        return False
