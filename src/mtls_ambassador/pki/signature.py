"""Signatures of certificates."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa


def verify(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check the signature alone, SHA-1 too, whatever the names say.

    Raises:
        InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError: it is wrong, or of a kind that is not known.
    """
    key, data, digest = issuer.public_key(), certificate.tbs_certificate_bytes, certificate.signature_hash_algorithm
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(certificate.signature, data)
    elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
        key.verify(certificate.signature, data, ec.ECDSA(digest))
    elif isinstance(key, rsa.RSAPublicKey) and digest is not None:
        parameters = certificate.signature_algorithm_parameters
        scheme = parameters if isinstance(parameters, padding.PSS) else padding.PKCS1v15()
        key.verify(certificate.signature, data, scheme, digest)
    else:
        raise InvalidSignature


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check that a certificate names this issuer and carries its signature.

    Raises:
        InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError: it does not.
    """
    if certificate.issuer != issuer.subject:
        raise ValueError("another issuer")
    verify(certificate, issuer)
