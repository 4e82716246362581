"""Rows of the ledger's tables, read into records."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate
from mtls_ambassador.ledger.schema import certificates

CERTIFICATE = tuple(certificates.c[name] for name in Certificate.__slots__)
"""The columns that `certificate_of` reads."""


def certificate_of(row: Row[*tuple[Any, ...]], prefix: str = "") -> Certificate:
    """The certificate in a row.

    Args:
        row: It has the columns `CERTIFICATE`.
        prefix: What their names begin with there.
    """
    return Certificate(**{name: getattr(row, f"{prefix}{name}") for name in Certificate.__slots__})


def adoption_of(row: Row[*tuple[Any, ...]], identity: str) -> Adoption | None:
    """The operator's word in a row of `devices`, if there is one."""
    if row.adoption_kind is None:
        return None
    return Adoption(identity, AdoptionKind(row.adoption_kind), row.adoption_value)
