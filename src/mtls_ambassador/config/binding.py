"""Identity binding: rules that relate fields of a client certificate to attributes of an identity. Frozen data only.

`binding_form` reads them from what a person wrote; `admission.policy` verifies them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class BindingMode(StrEnum):
    """What becomes of a device whose certificate does not match the identity it claims."""

    REFUSE = "refuse"
    """It is refused, and Mender hears nothing of it."""
    WARN = "warn"
    """It goes on as if there were no rules, and the log says that it would have been refused."""
    OFF = "off"
    """Nothing is compared."""


class CertificateField(StrEnum):
    """A field of a certificate that a rule may name; `FIELDS` says what is in it."""

    COMMON_NAME = "subject.CN"
    SERIAL_NUMBER = "subject.serialNumber"
    ORGANIZATIONAL_UNIT = "subject.OU"
    ORGANIZATION = "subject.O"
    DNS_NAME = "san.dns"
    URI = "san.uri"
    EMAIL = "san.email"
    SERIAL = "serial"
    ISSUER = "issuer"
    KEY = "key"
    FINGERPRINT = "fingerprint"

    @property
    def is_single(self) -> bool:
        """Whether every certificate has exactly one value of it; others may be there several times or not at all."""
        return "." not in self

    @property
    def hex_digits(self) -> int | None:
        """How many lower-case hex digits it always has, where that is so."""
        return 64 if self in (CertificateField.KEY, CertificateField.FINGERPRINT) else None


FIELDS: Mapping[CertificateField, str] = {
    CertificateField.COMMON_NAME: "common name of the subject",
    CertificateField.SERIAL_NUMBER: "serial number in the subject (not the certificate's own)",
    CertificateField.ORGANIZATIONAL_UNIT: "organizational unit of the subject",
    CertificateField.ORGANIZATION: "organization of the subject",
    CertificateField.DNS_NAME: "DNS names among the subject alternative names",
    CertificateField.URI: "URIs among the subject alternative names",
    CertificateField.EMAIL: "e-mail addresses among the subject alternative names",
    CertificateField.SERIAL: "the certificate's serial number, in lower-case hex and whole bytes",
    CertificateField.ISSUER: "name of the issuer as RFC 4514 text, such as `CN=My CA`",
    CertificateField.KEY: "SHA-256 of the public key (SubjectPublicKeyInfo, DER), in lower-case hex",
    CertificateField.FINGERPRINT: "SHA-256 of the certificate (DER), in lower-case hex",
}
"""What is in each field."""


class Compare(StrEnum):
    """When a certificate's text and an attribute's value are the same; `COMPARISONS` says it."""

    EXACT = "exact"
    MAC = "mac"
    IGNORE_CASE = "ignore_case"
    NUMBER = "number"


COMPARISONS: Mapping[Compare, str] = {
    Compare.EXACT: "character by character; the attribute must be text",
    Compare.MAC: "the attribute is a MAC address as Linux writes it (`52:54:00:ab:cd:ef`); the certificate may write "
    "it in upper case, with dashes (`52-54-00-ab-cd-ef`), dots (`5254.00ab.cdef`) or nothing in between",
    Compare.IGNORE_CASE: "as `exact`, but A to Z have no case, in the certificate and in the attribute",
    Compare.NUMBER: "the attribute is a number; the certificate has it in Mender's normal form (`1`, not `1.0`)",
}
"""What each comparison means."""


@dataclass(frozen=True, slots=True)
class EqualsRule:
    """A certificate field is an attribute's value."""

    certificate: CertificateField
    identity: str
    """Name of the attribute."""
    compare: Compare = Compare.EXACT

    def __str__(self) -> str:
        return f"{self.certificate} equals {self.identity}{_compared(self.compare)}"


@dataclass(frozen=True, slots=True)
class TemplateRule:
    """A certificate field is a text in which attributes stand; without any, that very text."""

    certificate: CertificateField
    template: str
    """As it was written, for messages."""
    literals: tuple[str, ...]
    """The text before, between and after the attributes: one more than these."""
    attributes: tuple[str, ...]
    """Names, in their order."""
    compare: Compare = Compare.EXACT

    def __str__(self) -> str:
        return f"{self.certificate} equals {self.template}{_compared(self.compare)}"


@dataclass(frozen=True, slots=True)
class PatternRule:
    """A certificate field matches a regular expression as a whole, whose named groups are attributes' values."""

    certificate: CertificateField
    regex: re.Pattern[str]
    compare: Compare = Compare.EXACT

    def __str__(self) -> str:
        return f"{self.certificate} matches {self.regex.pattern}{_compared(self.compare)}"


@dataclass(frozen=True, slots=True)
class AllRule:
    """Every one of these holds."""

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return _joined(self.rules, " and ")


@dataclass(frozen=True, slots=True)
class AnyRule:
    """At least one of these holds."""

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return _joined(self.rules, " or ")


@dataclass(frozen=True, slots=True)
class UnsafeAnyIdentityRule:
    """Holds for every certificate and every identity. Unsafe: it binds nothing."""

    def __str__(self) -> str:
        return "unsafe_any_identity"


Rule = EqualsRule | TemplateRule | PatternRule | AllRule | AnyRule | UnsafeAnyIdentityRule


@dataclass(frozen=True, slots=True)
class Binding:
    """What is demanded of certificates and identities; each trust anchor may have its own."""

    mode: BindingMode = BindingMode.OFF
    rules: tuple[Rule, ...] = ()
    """All must hold."""

    def __str__(self) -> str:
        return f"{self.mode}: {AllRule(self.rules)}" if self.rules else str(self.mode)


def _compared(compare: Compare) -> str:
    return "" if compare is Compare.EXACT else f" (compare: {compare})"


def _joined(rules: tuple[Rule, ...], word: str) -> str:
    return word.join(f"({rule})" if isinstance(rule, AllRule | AnyRule) else str(rule) for rule in rules)
