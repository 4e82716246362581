"""The keys that sign bound tokens, as the owner gives them: PEM text. Pure."""

from __future__ import annotations

import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_REMEDY = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"


def parse_token_keys(text: str) -> tuple[ec.EllipticCurvePrivateKey, ...]:
    """Read one or more P-256 private keys, in their order; other blocks (`EC PARAMETERS`) and text between are skipped.

    Raises:
        ValueError: there is none, or one cannot be read, is of another kind, or stands there twice.
    """
    keys: list[ec.EllipticCurvePrivateKey] = []
    for block in _BLOCK.finditer(text):
        number = len(keys) + 1
        try:
            key = serialization.load_pem_private_key(block[0].encode(), password=None)
        except TypeError:
            raise ValueError(f"holds an encrypted key (number {number}); decrypt it: openssl pkey -in FILE") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"holds a key that cannot be read (number {number}); make one: {_REMEDY}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"holds a key that is not on P-256 (number {number}); make one: {_REMEDY}")
        if any(key.private_numbers() == other.private_numbers() for other in keys):
            raise ValueError(f"holds a key twice (number {number}); keep one of them")
        keys.append(key)
    if not keys:
        raise ValueError(f"holds no private key in PEM; make one: {_REMEDY}")
    return tuple(keys)
