"""`config.binding_form`: rules as people write them, and errors that name the place and the likeliest remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.binding import (
    AllRule,
    AnyRule,
    Binding,
    BindingMode,
    CertificateField,
    Compare,
    EqualsRule,
    PatternRule,
    TemplateRule,
    UnsafeAnyIdentityRule,
)
from mtls_ambassador.config.binding_form import MalformedBinding, parse_binding
from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.pattern import compile_pattern
from mtls_ambassador.config.sources import load
from tests.unit.ledger.examples import sha256

CN_IS_MAC = {"certificate": "subject.CN", "identity": "mac"}
BASE = {"MTLS_MENDER_BACKEND": "https://hosted.mender.io", "MTLS_MENDER_TOKEN": "t"}

YAML = r"""
binding:
  mode: warn
  rules:
    - certificate: subject.CN
      identity: mac
      compare: mac
    - any:
        - certificate: san.dns
          template: "{mac}.devices.example.com"
        - certificate: subject.serialNumber
          pattern: 'dev-(?P<serial>\d{8})'
"""
TOML = r"""
[binding]
mode = "warn"
[[binding.rules]]
certificate = "subject.CN"
identity = "mac"
compare = "mac"
[[binding.rules]]
any = [
  { certificate = "san.dns", template = "{mac}.devices.example.com" },
  { certificate = "subject.serialNumber", pattern = 'dev-(?P<serial>\d{8})' },
]
"""
JSON = r"""
{"binding": {"mode": "warn", "rules": [
  {"certificate": "subject.CN", "identity": "mac", "compare": "mac"},
  {"any": [{"certificate": "san.dns", "template": "{mac}.devices.example.com"},
           {"certificate": "subject.serialNumber", "pattern": "dev-(?P<serial>\\d{8})"}]}]}}
"""
HCL = r"""
binding {
  mode = "warn"
  rules {
    certificate = "subject.CN"
    identity    = "mac"
    compare     = "mac"
  }
  rules {
    any = [
      { certificate = "san.dns", template = "{mac}.devices.example.com" },
      { certificate = "subject.serialNumber", pattern = "dev-(?P<serial>\\d{8})" },
    ]
  }
}
"""
HCL_ATTRIBUTE = r"""
binding = {
  mode = "warn"
  rules = [
    { certificate = "subject.CN", identity = "mac", compare = "mac" },
    { any = [
      { certificate = "san.dns", template = "{mac}.devices.example.com" },
      { certificate = "subject.serialNumber", pattern = "dev-(?P<serial>\\d{8})" },
    ] },
  ]
}
"""
MEANT = Binding(
    BindingMode.WARN,
    (
        EqualsRule(CertificateField.COMMON_NAME, "mac", Compare.MAC),
        AnyRule(
            (
                TemplateRule(
                    CertificateField.DNS_NAME,
                    "{mac}.devices.example.com",
                    ("", ".devices.example.com"),
                    ("mac",),
                ),
                PatternRule(CertificateField.SERIAL_NUMBER, compile_pattern(r"dev-(?P<serial>\d{8})")),
            )
        ),
    ),
)


@pytest.mark.parametrize(
    ("extension", "content"),
    [("yaml", YAML), ("toml", TOML), ("json", JSON), ("hcl", HCL), ("hcl", HCL_ATTRIBUTE)],
)
def test_all_formats_say_the_same(tmp_path: Path, extension: str, content: str) -> None:
    file = tmp_path / f"c.{extension}"
    file.write_text(content)
    assert load(file, BASE, {}).settings.binding == MEANT


def test_environment_and_command_line_take_json() -> None:
    text = json.dumps(json.loads(JSON)["binding"])
    assert load(None, {**BASE, "MTLS_BINDING": text}, {}).settings.binding == MEANT
    off = load(None, {**BASE, "MTLS_BINDING": text}, {"binding": '{"mode": "off"}'}).settings.binding
    assert off == Binding()


def test_nothing_is_bound_by_default() -> None:
    assert load(None, BASE, {}).settings.binding == Binding(BindingMode.OFF, ())


def test_rules_without_a_mode_refuse() -> None:
    assert parse_binding({"rules": [CN_IS_MAC]}).mode is BindingMode.REFUSE


@pytest.mark.parametrize("off", ["off", False])  # YAML reads a bare off as false
def test_rules_can_be_switched_off(off: object) -> None:
    assert parse_binding({"mode": off, "rules": [CN_IS_MAC]}) == Binding(
        BindingMode.OFF, (EqualsRule(CertificateField.COMMON_NAME, "mac"),)
    )


@pytest.mark.parametrize(
    ("template", "literals", "attributes"),
    [
        ("{mac}", ("", ""), ("mac",)),
        ("a{x}b{y}c", ("a", "b", "c"), ("x", "y")),
        ("{{{x}}}", ("{", "}"), ("x",)),
        ("{a b.c}-", ("", "-"), ("a b.c",)),
    ],
)
def test_templates(template: str, literals: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    (rule,) = parse_binding({"rules": [{"certificate": "san.dns", "template": template}]}).rules
    assert rule == TemplateRule(CertificateField.DNS_NAME, template, literals, attributes)


def test_conditions_choose_by_issuer() -> None:
    def plant(name: str, rule: object) -> dict[str, Any]:
        return {"all": [{"certificate": "issuer", "template": f"CN={name}"}, rule]}

    rules = parse_binding(
        {"rules": [{"any": [plant("A", CN_IS_MAC), plant("B", {"unsafe_any_identity": True})]}]}
    ).rules
    (choice,) = rules
    assert isinstance(choice, AnyRule)
    (_, second) = choice.rules
    assert isinstance(second, AllRule)
    assert second.rules[1] == UnsafeAnyIdentityRule()


def faults(value: object) -> tuple[tuple[str, str, str], ...]:
    with pytest.raises(MalformedBinding) as caught:
        parse_binding(value)
    for place, what, remedy in caught.value.faults:
        assert isinstance(place, str)
        assert what
        assert remedy.endswith((".", "?")), remedy
    return caught.value.faults


def fault(value: object) -> tuple[str, str, str]:
    (only,) = faults(value)
    return only


def rule_fault(**rule: object) -> tuple[str, str, str]:
    return fault({"rules": [rule]})


CN = "subject.CN"


@pytest.mark.parametrize(
    ("value", "place", "what"),
    [
        ("x", "", "is not JSON"),
        ("[" * 100_000, "", "is not JSON"),
        ("[]", "", "is not a mapping"),
        (7, "", "is not a mapping"),
        ({}, "rules", "are missing"),
        ({"mode": "warn"}, "rules", "are missing"),
        ({"rules": []}, "rules", "are missing"),
        ({"rules": CN_IS_MAC}, "rules", "is not a list"),
        ({"rules": None}, "rules", "is not a list"),
        ({"rules": ["subject.CN=mac"]}, "rules[0]", "is not a rule"),
        ({"rules": [{}]}, "rules[0]", "says nothing to compare with"),
        ({"rules": [{"certificate": CN}]}, "rules[0]", "says nothing to compare with"),
        ({"rules": [{"identity": "mac"}]}, "rules[0]", "has identity, but no certificate"),
        ({"rules": [{**CN_IS_MAC, "template": "{x}"}]}, "rules[0]", "has identity and template"),
        ({"rules": [{"any": [CN_IS_MAC], "certificate": CN}]}, "rules[0]", "has certificate beside any"),
        ({"rules": [{"any": []}]}, "rules[0].any", "is empty"),
        ({"rules": [CN_IS_MAC, {"all": []}]}, "rules[1].all", "is empty"),
        ({"rules": [CN_IS_MAC] * 65}, "rules", "are more than 64"),
        ({"rules": [{"unsafe_any_identity": False}]}, "rules[0].unsafe_any_identity", "is not true"),
    ],
)
def test_shapes_that_are_wrong(value: object, place: str, what: str) -> None:
    found = fault(value)
    assert found[0] == place
    assert what in found[1]


@pytest.mark.parametrize("levels", [9, 300])
def test_nesting_ends(levels: int) -> None:
    rule: dict[str, Any] = dict(CN_IS_MAC)
    for _ in range(levels):
        rule = {"any": [rule]}
    assert fault({"rules": [rule]})[1] == "is nested too deep"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("subject.CM", "subject.CN"),
        ("subject.cn", "subject.CN"),
        ("CN", "subject.CN"),
        ("OU", "subject.OU"),
        ("dns", "san.dns"),
        ("subject.SerialNumber", "subject.serialNumber"),
        ("Fingerprint", "fingerprint"),
    ],
)
def test_a_field_that_does_not_exist(given: str, meant: str) -> None:
    place, what, remedy = rule_fault(certificate=given, identity="mac")
    assert (place, what) == ("rules[0].certificate", f"{given!r} is not known")
    assert remedy == f"Did you mean {meant}?"


def test_a_field_like_no_other_is_answered_with_all() -> None:
    assert "san.dns" in rule_fault(certificate="xyzzy", identity="mac")[2]


def test_keys_with_typing_errors() -> None:
    assert fault({"mod": "warn"}) == ("mod", "is not a known key", "Did you mean mode?")
    assert rule_fault(certificate=CN, identiy="mac") == (
        "rules[0].identiy",
        "is not a known key",
        "Did you mean identity?",
    )
    assert fault({"mode": "refuze", "rules": [CN_IS_MAC]})[2] == "Did you mean refuse?"
    assert rule_fault(**CN_IS_MAC, compare="macs")[2] == "Did you mean mac?"


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"identity": 7}, "is not text"),
        ({"identity": ""}, "is not text"),
        ({"template": "{mac"}, "has a brace that names nothing"),
        ({"template": "mac}"}, "has a brace that names nothing"),
        ({"template": "{}"}, "has a brace that names nothing"),
        ({"template": "{a{b}}"}, "has a brace that names nothing"),
        ({"template": "{mac}{serial}"}, "could be read in two ways"),
        ({"template": "x" * 513}, "has 513 characters"),
        ({"template": "x", "compare": "mac"}, "has no attribute, but compare: mac"),
        ({"pattern": "["}, "is no regular expression"),
        ({"pattern": "dev-([0-9]+)"}, "has no named group"),
        ({"pattern": "(?P<x>(a+)+)"}, "could take very long"),
    ],
)
def test_texts_that_are_wrong(rule: dict[str, object], what: str) -> None:
    place, found, _ = rule_fault(certificate=CN, **rule)
    assert place.startswith("rules[0].")
    assert what in found


@pytest.mark.parametrize(
    "rule",
    [
        {"certificate": "fingerprint", "template": "AB:CD"},
        {"certificate": "fingerprint", "template": "AB" * 32},
        {"certificate": "key", "template": "ab" * 31},
        {"certificate": "key", "template": "sha256:{key}"},
        {"certificate": "serial", "template": "0x{serial}"},
        {"certificate": "key", "identity": "mac", "compare": "mac"},
        {"certificate": "serial", "pattern": "DEV-(?P<serial>[0-9]+)"},
        {"certificate": "serial", "pattern": "(?P<serial>[0-9a-f]{7})"},
        {"certificate": "serial", "pattern": "(?P<serial>[0-9a-f]{300})"},
        {"certificate": "key", "pattern": "(?P<mac>..:..:..:..:..:..)"},
        {"certificate": "key", "pattern": "(?P<mac>..:..:..:..:..:..)", "compare": "mac"},
        {"certificate": "fingerprint", "pattern": "(?P<x>[G-Z]{8})"},
        {"certificate": "fingerprint", "pattern": "(?P<x>[0-9A-F]{8})"},
        {"certificate": "fingerprint", "pattern": "(?P<x>[A-F]{64})"},
        {"any": [{"certificate": "fingerprint", "pattern": "(?P<x>[0-9a-f]{,63})"}]},
    ],
)
def test_what_no_certificate_fulfils_is_refused(rule: dict[str, object]) -> None:
    assert "could never hold" in rule_fault(**rule)[1]


@st.composite
def patterns_of(draw: st.DrawFn, digits: str) -> str:
    """A pattern that was made from these hex digits, and matches them if nothing else was put in."""
    parts = list[str]()
    while digits:
        piece, digits = digits[: (length := draw(st.integers(1, 9)))], digits[length:]
        other = draw(st.sampled_from(["", "G", ":", "[g-z]", "0{70}"]))
        parts.append(
            draw(
                st.sampled_from(
                    [
                        piece, piece.upper(), f"(?:{piece}|{other})", f"[0-9a-f]{{{len(piece)}}}",
                        f"[^:]{{1,{length}}}", f".{{{len(piece)}}}", f"{piece}{other}", f"(?:{other})?{piece}",
                        f"{piece}(?:$)?",
                        "".join(f"\\x{ord(digit):x}" for digit in piece),
                    ]
                )
            )
        )  # fmt: skip
    return f"(?P<x>{''.join(parts)})"


@given(st.data(), st.sampled_from(Compare), st.sampled_from(["serial", "key", "fingerprint"]))
def test_a_pattern_that_matches_some_field_is_never_refused(data: st.DataObject, compare: Compare, field: str) -> None:
    value = data.draw(st.binary(min_size=1, max_size=20)).hex()
    value = value if field == "serial" else sha256(value)
    pattern = data.draw(patterns_of(value))
    regex = re.compile(pattern, re.IGNORECASE if compare in (Compare.MAC, Compare.IGNORE_CASE) else 0)
    try:
        parse_binding({"rules": [{"certificate": field, "pattern": pattern, "compare": str(compare)}]})
    except MalformedBinding as error:
        told = str(error)
    else:
        told = ""
    assert "never hold" not in told or not regex.fullmatch(value)


def test_what_single_fields_can_fulfil_is_taken() -> None:
    for rule in (
        {"certificate": "serial", "identity": "mac", "compare": "mac"},
        {"certificate": "fingerprint", "identity": "fingerprint"},
        {"certificate": "serial", "template": "00{serial}"},
        {"certificate": "serial", "pattern": "(?:[0-9a-f]{2})*(?P<serial>[0-9a-f]{5})[0-9a-f]"},
        {"certificate": "fingerprint", "pattern": "(?P<x>[A-F0-9]{8}).*", "compare": "ignore_case"},
        {"certificate": "key", "pattern": "(?:SHA256:)?(?P<x>.+)"},
        {"certificate": "issuer", "pattern": "CN=(?P<x>Plant [0-9])"},
    ):
        parse_binding({"rules": [rule]})
    parse_binding({"rules": [CN_IS_MAC, {"certificate": "fingerprint", "template": "ab" * 32}]})


def issuer(name: str) -> dict[str, str]:
    return {"certificate": "issuer", "template": name}


@pytest.mark.parametrize(
    "rules",
    [
        [CN_IS_MAC, issuer("CN=A"), issuer("CN=B")],
        [CN_IS_MAC, issuer("CN=A"), {"all": [issuer("CN=B")]}],
        [CN_IS_MAC, {"any": [issuer("CN=A"), {"all": [issuer("CN=B"), {"any": [issuer("CN=A")]}]}]}],
        [{"any": [CN_IS_MAC, issuer("CN=A")]}, issuer("CN=B"), CN_IS_MAC],
    ],
)
def test_conditions_that_exclude_one_another_are_refused(rules: list[object]) -> None:
    assert "as issuer, which can never hold" in fault({"rules": rules})[1]


def test_conditions_on_fields_with_several_values_exclude_nothing() -> None:
    unit = [{"certificate": "subject.OU", "template": name} for name in "AB"]
    assert len(parse_binding({"rules": [CN_IS_MAC, *unit]}).rules) == 3


@pytest.mark.parametrize(
    "rules",
    [
        [issuer("CN=A")],
        [{"any": [CN_IS_MAC, issuer("CN=A")]}],
        [{"all": [issuer("CN=A"), {"certificate": "subject.O", "template": "Acme"}]}],
    ],
)
def test_rules_that_bind_nothing_are_refused(rules: list[object]) -> None:
    place, what, remedy = fault({"rules": rules})
    assert place == "rules"
    assert "a certificate could be every device" in what
    assert "unsafe_any_identity" in remedy


def test_all_faults_are_told_with_their_place_and_source(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "binding:\n  rules:\n  - {certificate: subject.CM, identity: mac}\n"
        "  - any: [{certificate: san.dns, template: '{'}, {certificate: subject.CN, identity: mac}]\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load(file, {**BASE, "MTLS_LISTEN": "x"}, {})
    assert [str(problem).splitlines()[0] for problem in caught.value.problems][1:] == [
        f"binding.rules[0].certificate ({file}): 'subject.CM' is not known",
        f"binding.rules[1].any[0].template ({file}): '{{' has a brace that names nothing",
    ]
    with pytest.raises(ConfigurationError, match=r"binding \(environment MTLS_BINDING\): is not JSON"):
        load(None, {**BASE, "MTLS_BINDING": "mode: warn"}, {})
