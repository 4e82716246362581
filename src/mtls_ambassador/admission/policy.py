"""Whether a certificate may claim an identity: small policies that raise with what they expected and got. Pure.

Each is made from the rule of its kind (`config.binding`); `identity_policy` makes those of a whole binding.

Certificate values are compared as they stand, so that one value never fits two identities, with one exception that says
so in the rule: `ignore_case`. A policy never accepts a field that is missing, could not be read, or is empty, nor an
attribute that is missing, empty, or of another type than the rule compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.identity import Identity, normal_form
from mtls_ambassador.config.binding import (
    AllRule,
    AnyRule,
    Binding,
    BindingMode,
    Compare,
    EqualsRule,
    PatternRule,
    Rule,
    TemplateRule,
    UnsafeAnyIdentityRule,
)
from mtls_ambassador.config.pattern import LONGEST_VALUE
from mtls_ambassador.errors import Error

_LINUX_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_PLAIN = re.compile(r"[A-Za-z0-9_.:@/+=,-]+")
_MOST_SHOWN = 4
_LONGEST_SHOWN = 80


class BindingMismatch(Error):
    """This certificate may not claim this identity.

    Attributes:
        rule: The rule that does not hold, as a person reads it.
        expected: What would fit.
        got: What is there instead.
    """

    def __init__(self, rule: str, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got} (rule: {rule})")
        self.rule = rule
        self.expected = expected
        self.got = got


class IdentityPolicy(Protocol):
    """Decides whether a certificate may claim an identity."""

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """Return if it may.

        Raises:
            BindingMismatch: it may not.
        """


@dataclass(frozen=True, slots=True)
class Equals:
    """A certificate field is an attribute's value."""

    rule: EqualsRule

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """See `IdentityPolicy`."""
        rule = self.rule
        _require_one_of(_texts(rule, ("", ""), (rule.identity,), identity), rule, certificate)


@dataclass(frozen=True, slots=True)
class Template:
    """A certificate field is a text in which attributes stand."""

    rule: TemplateRule

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """See `IdentityPolicy`."""
        rule = self.rule
        _require_one_of(_texts(rule, rule.literals, rule.attributes, identity), rule, certificate)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A certificate field matches a regular expression whose named groups are attributes' values."""

    rule: PatternRule

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """See `IdentityPolicy`."""
        rule = self.rule
        expected = {name: _spellings(rule, name, identity) for name in rule.regex.groupindex}
        values = _values(rule, certificate)
        for value in values:
            found = rule.regex.fullmatch(value) if len(value) <= LONGEST_VALUE else None
            if found and all(_folded(found[name], rule.compare) in texts for name, texts in expected.items()):
                return
        attributes = ", ".join(f"{name} {_shown(texts[:1])}" for name, texts in expected.items())
        raise BindingMismatch(str(rule), f"{rule.certificate} with {attributes}", _shown(values))


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these policies."""

    policies: tuple[IdentityPolicy, ...]

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """See `IdentityPolicy`; the first that does not hold is told."""
        for policy in self.policies:
            policy.verify(certificate, identity)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these policies."""

    policies: tuple[IdentityPolicy, ...]

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """See `IdentityPolicy`; if none holds, all are told. None at all accepts nothing."""
        mismatches: list[BindingMismatch] = []
        for policy in self.policies:
            try:
                policy.verify(certificate, identity)
            except BindingMismatch as mismatch:
                mismatches.append(mismatch)
            else:
                return
        raise BindingMismatch(
            " or ".join(mismatch.rule for mismatch in mismatches) or "any of nothing",
            " or ".join(mismatch.expected for mismatch in mismatches) or "one of no rules",
            "; ".join(dict.fromkeys(mismatch.got for mismatch in mismatches)),
        )


@dataclass(frozen=True, slots=True)
class UnsafeAnyIdentity:
    """Accepts every certificate for every identity. Unsafe: whoever has a certificate can be any device."""

    def verify(self, certificate: PeerCertificate, identity: Identity) -> None:
        """Return."""


@dataclass(frozen=True, slots=True)
class IdentityBinding:
    """A policy, and what happens when it does not hold."""

    mode: BindingMode
    policy: IdentityPolicy


def identity_binding(binding: Binding) -> IdentityBinding:
    """What to verify for this binding."""
    return IdentityBinding(binding.mode, identity_policy(AllRule(binding.rules)))


def identity_policy(rule: Rule) -> IdentityPolicy:
    """The policy that a rule stands for."""
    match rule:
        case EqualsRule():
            return Equals(rule)
        case TemplateRule():
            return Template(rule)
        case PatternRule():
            return Pattern(rule)
        case AllRule(rules):
            return AllOf(tuple(map(identity_policy, rules)))
        case AnyRule(rules):
            return AnyOf(tuple(map(identity_policy, rules)))
        case UnsafeAnyIdentityRule():
            return UnsafeAnyIdentity()


_Comparison = EqualsRule | TemplateRule | PatternRule


def _require_one_of(texts: tuple[str, ...], rule: _Comparison, certificate: PeerCertificate) -> None:
    values = _values(rule, certificate)
    if not any(_folded(value, rule.compare) in texts for value in values):
        raise BindingMismatch(str(rule), f"{rule.certificate} {_shown(texts[:1])}", _shown(values))


def _values(rule: _Comparison, certificate: PeerCertificate) -> tuple[str, ...]:
    values = certificate.values(rule.certificate)
    if values is None:
        raise BindingMismatch(str(rule), f"a certificate with {rule.certificate}", "one in which it cannot be read")
    if not any(values):
        raise BindingMismatch(str(rule), f"a certificate with {rule.certificate}", "one without")
    return values


def _texts(
    rule: _Comparison, literals: tuple[str, ...], attributes: tuple[str, ...], identity: Identity
) -> tuple[str, ...]:
    """What the certificate may say for this identity; folded where the rule ignores case."""
    spelled = [_spellings(rule, name, identity) for name in attributes]
    folded = [_folded(literal, rule.compare) for literal in literals]
    for values, name, separator in zip(spelled, attributes, folded[1:-1], strict=False):
        if rule.compare is not Compare.MAC and (values[0] + separator).find(separator) != len(values[0]):
            # "a-b" and "c" would give the same text as "a" and "b-c": one certificate for two devices.
            raise BindingMismatch(
                str(rule), f"an identity whose {name} does not hold the separator {separator!r}", _shown(values)
            )
    return tuple(
        "".join(part for pair in zip(folded, (*values, ""), strict=True) for part in pair)
        for values in (zip(*spelled, strict=True) if spelled else ((),))
    )


def _spellings(rule: _Comparison, name: str, identity: Identity) -> tuple[str, ...]:
    """How a certificate may write this attribute."""
    value = identity.attributes.get(name)
    kind = "number" if rule.compare is Compare.NUMBER else "text"
    expected = f"an identity with {name} as {kind}"
    if name not in identity.attributes:
        raise BindingMismatch(str(rule), expected, "one without")
    if rule.compare is Compare.NUMBER:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BindingMismatch(str(rule), expected, _shown((normal_form(value),)))
        return (normal_form(value),)
    if not isinstance(value, str) or not value:
        raise BindingMismatch(str(rule), expected, _shown((normal_form(value),)))
    if rule.compare is not Compare.MAC:
        return (_folded(value, rule.compare),)
    if not _LINUX_MAC.fullmatch(value):
        raise BindingMismatch(
            str(rule), f"an identity whose {name} is a MAC address such as 52:54:00:ab:cd:ef", _shown((value,))
        )
    digits = value.replace(":", "")
    dotted = ".".join((digits[:4], digits[4:8], digits[8:]))
    return (value, value.replace(":", "-"), digits, dotted)


def _folded(text: str | None, compare: Compare) -> str:
    """Without case where the rule says so: ASCII only, since Unicode's rules make one letter out of several."""
    if text is None:  # a group of a pattern that took no part in the match
        return ""
    if compare in (Compare.IGNORE_CASE, Compare.MAC):
        return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
    return text


def _shown(values: Iterable[str]) -> str:
    """Values as a message quotes them; strangers choose them, so only so much of them."""
    texts = [value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}..." for value in values]
    shown = [text if _PLAIN.fullmatch(text) else json.dumps(text) for text in texts[:_MOST_SHOWN]]
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
