"""Distinguished names, compared as TLS compares them."""

from __future__ import annotations

from cryptography import x509


def canonical(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """A name for comparison (RFC 5280 section 7.1): without regard to letter case, string types and outer blanks."""
    return [
        frozenset((attribute.oid.dotted_string, " ".join(str(attribute.value).lower().split())) for attribute in rdn)
        for rdn in name.rdns
    ]


def same(one: x509.Name, other: x509.Name) -> bool:
    """Whether two names are one."""
    return canonical(one) == canonical(other)
