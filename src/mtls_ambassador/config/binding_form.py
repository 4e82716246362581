"""The form in which a person writes an identity binding, read into `Binding` and checked. Pure.

What is wrong is told with its place (`rules[1].any[0].certificate`), all of it at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, InstanceOf

from mtls_ambassador.config.binding import (
    AllRule,
    AnyRule,
    Binding,
    BindingMode,
    CertificateField,
    Compare,
    EqualsRule,
    PatternRule,
    Rule,
    TemplateRule,
    UnsafeAnyIdentityRule,
)
from mtls_ambassador.config.formats import DuplicateKeyError, parse_json
from mtls_ambassador.config.pattern import compile_pattern, possible_lengths

BINDING_KEYS: Mapping[str, str] = {
    "mode": "`refuse` (default) refuses a device whose certificate does not match its identity, "
    "`warn` only says so in the log, `off` compares nothing",
    "rules": "list of rules; all must hold",
}
"""Keys of a binding, and what they mean."""

RULE_KEYS: Mapping[str, str] = {
    "certificate": "a field of the certificate (below); if it has several values, one of them must match",
    "identity": "name of the attribute that the field must equal",
    "template": "or text with attributes in braces that the field must equal: `{mac}.devices.example.com`. "
    "`{{` and `}}` are braces. Without an attribute, a condition on the certificate alone",
    "pattern": "or a regular expression that the whole field must match; each named group must equal the attribute of "
    "its name: `dev-(?P<serial>[0-9]{8})`",
    "compare": "`exact` (default), `mac`, `ignore_case` or `number`",
    "any": "instead of these: a list of rules, one of which must hold",
    "all": "instead of these: a list of rules, all of which must hold",
    "unsafe_any_identity": "instead of these: `true`, which holds for every identity. Unsafe",
}
"""Keys of a rule, and what they mean."""

_KINDS = ("identity", "template", "pattern", "any", "all", "unsafe_any_identity")
_LONGEST_TEXT = 512
_MOST_RULES = 64
_DEEPEST = 8
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_EXAMPLE = "write {mode: refuse, rules: [{certificate: subject.CN, identity: mac}]}"


class MalformedBinding(ValueError):
    """A binding that cannot be used.

    Attributes:
        faults: Each with its place in the binding (empty for the whole of it), what is wrong, and what would be right.
    """

    def __init__(self, *faults: tuple[str, str, str]) -> None:
        super().__init__("; ".join(f"{place}: {what}" for place, what, _ in faults))
        self.faults = faults


def parse_binding(value: object) -> Binding:
    """Read a mapping with `mode` and `rules`, or the same as JSON text.

    Raises:
        MalformedBinding: with every fault found.
    """
    if isinstance(value, Binding):
        return value
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except DuplicateKeyError as error:
            raise MalformedBinding(("", f"says {error.key} twice, {error.place}", "Keep one.")) from None
        except (ValueError, RecursionError):
            raise MalformedBinding(("", "is not JSON", f"Where it is text, it must be JSON; {_EXAMPLE}.")) from None
    if isinstance(value, list) and len(value) == 1:  # a block of HCL
        value = value[0]
    if not isinstance(value, Mapping):
        raise MalformedBinding(("", "is not a mapping with mode and rules", f"{_EXAMPLE.capitalize()}."))
    _require_known(value, BINDING_KEYS, "")
    mode = (
        BindingMode.OFF if value.get("mode") is False else _choice(BindingMode, value, "mode", BindingMode.REFUSE, "")
    )
    rules = _rules(value.get("rules", []), "rules", 1)
    if _count(rules) > _MOST_RULES:
        raise MalformedBinding(("rules", f"are more than {_MOST_RULES}", "Write patterns instead of lists."))
    if mode is not BindingMode.OFF and not rules:
        raise MalformedBinding(("rules", "are missing", f"{_EXAMPLE.capitalize()}, or mode: off."))
    _require_consistent(rules, {})
    if rules and not _binds(AllRule(rules)):
        raise MalformedBinding(
            (
                "rules",
                "can all hold without any attribute of the identity, so a certificate could be every device",
                "Add a rule with identity, or say unsafe_any_identity: true if that is meant.",
            )
        )
    return Binding(mode, rules)


GivenBinding = Annotated[InstanceOf[Binding], BeforeValidator(parse_binding)]
"""The type of a setting that is a binding."""


def _rules(value: object, place: str, depth: int) -> tuple[Rule, ...]:
    if not isinstance(value, list | tuple):
        raise MalformedBinding((place, "is not a list of rules", "Write [{certificate: subject.CN, identity: mac}]."))
    if depth > _DEEPEST:
        raise MalformedBinding((place, "is nested too deep", f"Nest at most {_DEEPEST} levels."))
    rules: list[Rule] = []
    faults: list[tuple[str, str, str]] = []
    for number, item in enumerate(value):
        try:
            rules.append(_rule(item, f"{place}[{number}]", depth))
        except MalformedBinding as error:
            faults += error.faults
    if faults:
        raise MalformedBinding(*faults)
    return tuple(rules)


def _rule(value: object, place: str, depth: int) -> Rule:
    if not isinstance(value, Mapping):
        raise MalformedBinding((place, "is not a rule", "Write {certificate: subject.CN, identity: mac}."))
    _require_known(value, RULE_KEYS, place)
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        what = f"has {' and '.join(kinds)}" if kinds else "says nothing to compare with"
        raise MalformedBinding((place, what, f"A rule has exactly one of {', '.join(_KINDS)}."))
    (kind,) = kinds
    if kind in ("any", "all", "unsafe_any_identity"):
        if extra := [key for key in ("certificate", "compare") if key in value]:
            raise MalformedBinding(
                (place, f"has {' and '.join(extra)} beside {kind}", f"Leave {kind} alone in its rule.")
            )
        if kind == "unsafe_any_identity":
            if value[kind] is not True:
                raise MalformedBinding((f"{place}.{kind}", "is not true", "Write true, or leave the rule out."))
            return UnsafeAnyIdentityRule()
        return _combined(kind, value[kind], f"{place}.{kind}", depth)
    return _comparison(kind, value, place)


def _combined(kind: str, value: object, place: str, depth: int) -> Rule:
    rules = _rules(value, place, depth + 1)
    if not rules:
        remedy = "It could never hold." if kind == "any" else "It would hold for everybody."
        raise MalformedBinding((place, "is empty", f"{remedy} Write rules into it, or leave it out."))
    return AnyRule(rules) if kind == "any" else AllRule(rules)


def _comparison(kind: str, value: Mapping[object, object], place: str) -> Rule:
    if "certificate" not in value:
        raise MalformedBinding((place, f"has {kind}, but no certificate", "Name a field: certificate: subject.CN."))
    field = _choice(CertificateField, value, "certificate", CertificateField.COMMON_NAME, place)
    compare = _choice(Compare, value, "compare", Compare.EXACT, place)
    text = value[kind]
    where = f"{place}.{kind}"
    if not isinstance(text, str) or not text:
        raise MalformedBinding((where, f"{text!r} is not text", "Write it in quotes."))
    if len(text) > _LONGEST_TEXT:
        raise MalformedBinding((where, f"has {len(text)} characters", f"Write at most {_LONGEST_TEXT}."))
    if kind == "pattern":
        pattern = _pattern(field, text, compare, where)
        _require_possible_pattern(pattern, where)
        return pattern
    rule = EqualsRule(field, text, compare) if kind == "identity" else _template(field, text, compare, where)
    _require_possible(rule, where)
    return rule


def _pattern(field: CertificateField, text: str, compare: Compare, where: str) -> PatternRule:
    folds = compare in (Compare.IGNORE_CASE, Compare.MAC)
    try:
        regex = compile_pattern(text, ignore_case=folds)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise MalformedBinding((where, f"{text!r} {what}", f"{remedy[:1].upper()}{remedy[1:]}.")) from None
    if not regex.groupindex:
        raise MalformedBinding(
            (where, f"{text!r} has no named group", "Name the part that is an attribute: dev-(?P<serial>[0-9]{8}).")
        )
    return PatternRule(field, regex, compare)


def _template(field: CertificateField, text: str, compare: Compare, where: str) -> TemplateRule:
    literals, attributes, end = [""], [], 0
    for found in _BRACES.finditer(text):
        literals[-1] += text[end : found.start()]
        end = found.end()
        if found[0] in ("{{", "}}"):
            literals[-1] += found[0][0]
        elif found[1]:
            attributes.append(found[1])
            literals.append("")
        else:
            raise MalformedBinding(
                (
                    where,
                    f"{text!r} has a brace that names nothing",
                    "Write {mac} for an attribute, {{ or }} for a brace.",
                )
            )
    literals[-1] += text[end:]
    if "" in literals[1:-1]:
        raise MalformedBinding(
            (where, f"{text!r} could be read in two ways", "Put a separator between two attributes: {mac}-{serial}.")
        )
    return TemplateRule(field, text, tuple(literals), tuple(attributes), compare)


def _require_possible(rule: EqualsRule | TemplateRule, where: str) -> None:
    """Refuse what no certificate and identity can fulfil."""
    literals = rule.literals if isinstance(rule, TemplateRule) else ("", "")
    if len(literals) == 1 and rule.compare in (Compare.MAC, Compare.NUMBER):
        raise MalformedBinding((where, f"has no attribute, but compare: {rule.compare}", "Leave compare out."))
    if rule.certificate.hex_digits is None and rule.certificate is not CertificateField.SERIAL:
        return
    text = "".join(literals)
    if not re.fullmatch("[0-9a-f]*", text.lower() if rule.compare is Compare.IGNORE_CASE else text):
        never = "is lower-case hex without separators, so this could never hold"
    elif rule.certificate.hex_digits and len(literals) == 1 and len(text) != rule.certificate.hex_digits:
        never = f"has {rule.certificate.hex_digits} hex digits, so this could never hold"
    elif rule.certificate.hex_digits and rule.compare is Compare.MAC:
        never = "is no MAC address, so this could never hold"
    else:
        return
    raise MalformedBinding((where, f"{rule.certificate} {never}", "See how the log writes it."))


def _require_possible_pattern(rule: PatternRule, where: str) -> None:
    """Refuse what no field of hex digits can match."""
    digits = rule.certificate.hex_digits
    if digits is None and rule.certificate is not CertificateField.SERIAL:
        return
    lengths = possible_lengths(rule.regex, "0123456789abcdef")
    if not lengths:
        never = "is lower-case hex without separators, so this could never hold"
    elif digits is not None and digits not in lengths:
        never = f"has {digits} hex digits, so this could never hold"
    elif digits is None and not any(length and length % 2 == 0 for length in lengths):
        never = "has an even number of hex digits, so this could never hold"
    else:
        return
    raise MalformedBinding((where, f"{rule.certificate} {never}", "See how the log writes it."))


def _require_consistent(rules: Iterable[Rule], outer: Mapping[CertificateField, str]) -> None:
    """Refuse conditions that exclude one another: two texts for a field that has one value."""
    demanded = dict(outer)
    flat = list(_flattened(rules))
    for rule in flat:
        if isinstance(rule, TemplateRule) and not rule.attributes and rule.compare is Compare.EXACT:
            first = demanded.setdefault(rule.certificate, rule.literals[0])
            if rule.certificate.is_single and first != rule.literals[0]:
                raise MalformedBinding(
                    (
                        "rules",
                        f"demand {first!r} and {rule.literals[0]!r} as {rule.certificate}, which can never hold",
                        "Put them under any.",
                    )
                )
    for rule in flat:
        if isinstance(rule, AnyRule):
            for choice in rule.rules:
                _require_consistent((choice,), demanded)


def _flattened(rules: Iterable[Rule]) -> Iterator[Rule]:
    """All that must hold together."""
    for rule in rules:
        if isinstance(rule, AllRule):
            yield from _flattened(rule.rules)
        else:
            yield rule


def _require_known(value: Mapping[object, object], known: Mapping[str, str], place: str) -> None:
    faults = [
        (f"{place}.{key}" if place else str(key), "is not a known key", _nearest(str(key), known) or "Remove it.")
        for key in value
        if key not in known
    ]
    if faults:
        raise MalformedBinding(*faults)


_E = TypeVar("_E", BindingMode, CertificateField, Compare)


def _choice(choices: type[_E], value: Mapping[object, object], key: str, default: _E, place: str) -> _E:
    given = value.get(key, default)
    for choice in choices:
        if given == choice:
            return choice
    names = [str(choice) for choice in choices]
    remedy = _nearest(str(given), names) or f"Write one of {', '.join(names)}."
    raise MalformedBinding((f"{place}.{key}" if place else key, f"{str(given)[:80]!r} is not known", remedy))


def _nearest(given: str, known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    # People write the last part of a field, or its usual short name.
    ends = [name for lower, name in by_lower.items() if lower.rpartition(".")[2] == given.lower()]
    close = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    nearest = ends[:1] or [by_lower[lower] for lower in close]
    return f"Did you mean {nearest[0]}?" if nearest else ""


def _count(rules: Iterable[Rule]) -> int:
    return sum(_count(rule.rules) if isinstance(rule, AllRule | AnyRule) else 1 for rule in rules)


def _binds(rule: Rule) -> bool:
    """Whether no way to fulfil it leaves every attribute free, unless the owner said so."""
    match rule:
        case AllRule(rules):
            return any(_binds(inner) for inner in rules)
        case AnyRule(rules):
            return all(_binds(inner) for inner in rules)
        case TemplateRule():
            return bool(rule.attributes)
        case _:
            return True
