"""Policies accept a certificate for an identity exactly if the rule holds, and say what they expected and got."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtls_ambassador.admission.certificate import PeerCertificate
from mtls_ambassador.admission.identity import Identity, parse_identity
from mtls_ambassador.admission.policy import (
    AnyOf,
    BindingMismatch,
    UnsafeAnyIdentity,
    identity_binding,
)
from mtls_ambassador.config.binding import BindingMode, CertificateField
from mtls_ambassador.config.binding_form import MalformedBinding, parse_binding

MAC = "52:54:00:ab:cd:ef"
NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def certificate(names: Mapping[str, str | tuple[str, ...]] | None = None) -> PeerCertificate:
    """One with these names; a field that is not given could not be read."""
    given = names or {}
    return PeerCertificate(
        "ab" * 32,
        b"key",
        "CN=x",
        "CN=My CA",
        "52540000abcdef",
        is_ca=False,
        not_before=NOW,
        not_after=NOW,
        names={
            CertificateField(name): (values,) if isinstance(values, str) else values for name, values in given.items()
        },
    )


def identity(attributes: Mapping[str, Any]) -> Identity:
    return parse_identity(json.dumps(attributes))


def verify(rules: Any, peer: PeerCertificate, claimed: Identity) -> None:
    """Verify one rule, or several."""
    given = rules if isinstance(rules, list) else [rules]
    identity_binding(parse_binding({"rules": given})).policy.verify(peer, claimed)


def holds(rules: Any, peer: PeerCertificate, claimed: Identity) -> bool:
    try:
        verify(rules, peer, claimed)
    except BindingMismatch:
        return False
    return True


def cn(value: str | tuple[str, ...]) -> PeerCertificate:
    return certificate({"subject.CN": value})


def rule(kind: str, text: str, compare: str = "exact", field: str = "subject.CN") -> dict[str, Any]:
    return {"certificate": field, kind: text, "compare": compare}


# Each rule, by example

MATCHES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (rule("identity", "mac"), MAC, {"mac": MAC}),
    (rule("identity", "mac"), MAC, {"serial": "1", "mac": MAC}),
    (rule("identity", "mac", "mac"), MAC, {"mac": MAC}),
    (rule("identity", "mac", "mac"), "52:54:00:AB:CD:EF", {"mac": MAC}),
    (rule("identity", "mac", "mac"), "52-54-00-ab-CD-ef", {"mac": MAC}),
    (rule("identity", "mac", "mac"), "525400ABCDEF", {"mac": MAC}),
    (rule("identity", "mac", "mac"), "5254.00ab.cdef", {"mac": MAC}),
    (rule("identity", "sn", "ignore_case"), "dev-A1", {"sn": "DEV-a1"}),
    (rule("identity", "n", "number"), "1", {"n": 1.0}),
    (rule("identity", "n", "number"), "1e+21", {"n": 10**21}),
    (rule("template", "{mac}.devices.example.com"), "a.devices.example.com", {"mac": "a"}),
    (rule("template", "{mac}.devices.example.com", "mac"), "525400abcdef.Devices.example.com", {"mac": MAC}),
    (rule("template", "{a}-{b}"), "x-y-z", {"a": "x", "b": "y-z"}),
    (rule("template", "{{{a}}}"), "{x}", {"a": "x"}),
    (rule("pattern", "dev-(?P<serial>[0-9]{8})"), "dev-00004711", {"serial": "00004711"}),
    (rule("pattern", r"(?P<a>\w+)\.(?P<b>\w+)"), "x.y", {"a": "x", "b": "y"}),
    (rule("pattern", "dev-(?P<mac>[0-9a-f]{12})", "mac"), "DEV-525400ABCDEF", {"mac": MAC}),
    (rule("pattern", "no(?P<n>[0-9]+)", "number"), "no12", {"n": 12}),
    (rule("pattern", "(?P<sn>[a-z]+)", "ignore_case"), "Ab", {"sn": "aB"}),
]


@pytest.mark.parametrize(("given", "name", "attributes"), MATCHES)
def test_holds(given: dict[str, Any], name: str, attributes: dict[str, Any]) -> None:
    verify(given, cn(name), identity(attributes))
    verify(given, cn(("another", name)), identity(attributes))  # one of several values is enough
    assert not holds(given, cn("another"), identity(attributes))
    assert not holds(given, cn(f"{name}\n"), identity(attributes))
    assert not holds(given, cn(f"{name}\0"), identity(attributes))
    assert not holds(given, cn(f" {name}"), identity(attributes))


@pytest.mark.parametrize(
    ("given", "name", "attributes"),
    [
        (rule("identity", "mac"), "52:54:00:AB:CD:EF", {"mac": MAC}),
        (rule("identity", "mac"), "525400abcdef", {"mac": MAC}),
        (rule("identity", "mac", "ignore_case"), "525400abcdef", {"mac": MAC}),
        (rule("identity", "mac", "mac"), "52:5400abcdef", {"mac": MAC}),
        (rule("identity", "mac", "mac"), "52-54:00:ab:cd:ef", {"mac": MAC}),
        (rule("identity", "mac", "mac"), MAC, {"mac": MAC.upper()}),  # Mender would take it for another device
        (rule("identity", "mac", "mac"), "525400abcdef", {"mac": "525400abcdef"}),
        (rule("identity", "mac", "mac"), "x", {"mac": "x"}),
        (rule("identity", "mac"), "1", {"mac": 1}),
        (rule("identity", "n", "number"), "1.0", {"n": 1}),
        (rule("identity", "n", "number"), "1", {"n": "1"}),
        (rule("identity", "n", "number"), "true", {"n": True}),
        (rule("identity", "n", "number"), "1", {"n": True}),
        (rule("identity", "sn"), "null", {"sn": None}),
        (rule("identity", "sn"), '["a"]', {"sn": ["a"]}),
        (rule("identity", "sn"), "a", {"sn": ["a"]}),
        (rule("identity", "sn"), '{"a":1}', {"sn": {"a": 1}}),
        (rule("identity", "sn"), "a", {"serial": "a"}),
        (rule("identity", "sn"), "a", {"SN": "a"}),
        (rule("identity", "sn"), "", {"sn": ""}),
        (rule("identity", "sn", "ignore_case"), "\u212a", {"sn": "k"}),  # the Kelvin sign is no k
        (rule("identity", "sn", "ignore_case"), "\u017f", {"sn": "s"}),
        (rule("identity", "sn", "ignore_case"), "ä", {"sn": "Ä"}),
        (rule("identity", "sn"), "u\u0308", {"sn": "\u00fc"}),  # two devices for Mender
        (rule("template", "{a}.x"), "*.x", {"a": "a"}),
        (rule("template", "{a}.x"), ".x", {"a": ""}),
        (rule("template", "{a}-{b}"), "x-y-z", {"a": "x-y", "b": "z"}),
        (rule("template", "{a}--{b}"), "x---z", {"a": "x-", "b": "z"}),
        (rule("pattern", "dev-(?P<serial>[0-9]{8})"), "dev-00004711", {"serial": "4711"}),
        (rule("pattern", "dev-(?P<serial>[0-9]{8})"), "xdev-00004711", {"serial": "00004711"}),
        (rule("pattern", "dev-(?P<serial>[0-9]{8})$"), "dev-00004711\n", {"serial": "00004711"}),
        (rule("pattern", "(?P<a>x)?(?P<b>y)"), "y", {"a": "", "b": "y"}),
        (rule("pattern", "(?P<a>x)|(?P<b>y)"), "y", {"b": "y"}),
        (rule("pattern", "(?P<sn>.*)"), "x" * 257, {"sn": "x" * 257}),
    ],
)
def test_does_not_hold(given: dict[str, Any], name: str, attributes: dict[str, Any]) -> None:
    assert not holds(given, cn(name), identity(attributes))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("serial", "52540000abcdef"),
        ("issuer", "CN=My CA"),
        ("fingerprint", "ab" * 32),
        ("key", "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"),
    ],
)
def test_fields_of_every_certificate(field: str, value: str) -> None:
    verify(rule("identity", "x", field=field), certificate(), identity({"x": value}))
    assert not holds(rule("identity", "x", field=field), certificate(), identity({"x": value[:-1]}))


# Combined

CN_IS_MAC, DNS_IS_MAC = rule("identity", "mac"), rule("template", "{mac}.x", field="san.dns")
BOTH = certificate({"subject.CN": "a", "san.dns": "a.x"})
ONE = certificate({"subject.CN": "a", "san.dns": "b.x"})
A = identity({"mac": "a"})


def test_all_and_any() -> None:
    for rules in ([CN_IS_MAC, DNS_IS_MAC], [{"all": [CN_IS_MAC, DNS_IS_MAC]}]):
        verify(rules, BOTH, A)
        assert not holds(rules, ONE, A)
    either = {"any": [DNS_IS_MAC, CN_IS_MAC]}
    verify(either, ONE, A)
    assert not holds(either, ONE, identity({"mac": "c"}))
    assert not holds([either, DNS_IS_MAC], ONE, A)


def test_a_field_that_cannot_be_read_spoils_only_its_rule() -> None:
    peer = certificate({"subject.CN": "a"})
    verify({"any": [DNS_IS_MAC, CN_IS_MAC]}, peer, A)
    with pytest.raises(BindingMismatch) as caught:
        verify(DNS_IS_MAC, peer, A)
    assert caught.value.got == "one in which it cannot be read"


def test_chosen_by_issuer() -> None:
    legacy = {"all": [rule("template", "CN=Legacy", field="issuer"), {"unsafe_any_identity": True}]}
    assert not holds({"any": [CN_IS_MAC, legacy]}, cn("x"), A)
    ours = {"all": [rule("template", "CN=My CA", field="issuer"), {"unsafe_any_identity": True}]}
    assert holds({"any": [CN_IS_MAC, ours]}, cn("x"), A)


def test_the_unsafe_one_accepts_everything() -> None:
    UnsafeAnyIdentity().verify(certificate(), A)


def test_any_of_nothing_accepts_nothing() -> None:
    with pytest.raises(BindingMismatch):
        AnyOf(()).verify(BOTH, A)


def test_the_mode_goes_along() -> None:
    assert identity_binding(parse_binding({"mode": "warn", "rules": [CN_IS_MAC]})).mode is BindingMode.WARN


# What is said


@pytest.mark.parametrize(
    ("rules", "peer", "attributes", "text"),
    [
        (CN_IS_MAC, cn("dev-1"), {"mac": MAC}, f"expected subject.CN {MAC}, got dev-1 (rule: subject.CN equals mac)"),
        (CN_IS_MAC, cn(()), {"mac": "a"}, "expected a certificate with subject.CN, got one without ("),
        (CN_IS_MAC, cn("a"), {"x": "a"}, "expected an identity with mac as text, got one without ("),
        (CN_IS_MAC, cn("1"), {"mac": 1}, "expected an identity with mac as text, got 1 ("),
        (CN_IS_MAC, cn('x"\n'), {"mac": "a b"}, 'expected subject.CN "a b", got "x\\"\\n" ('),
        (CN_IS_MAC, cn(tuple("bcdefg")), {"mac": "a"}, "expected subject.CN a, got b, c, d, e and 2 more ("),
        (CN_IS_MAC, cn("x" * 900), {"mac": "a"}, f"expected subject.CN a, got {'x' * 80}... ("),
        (
            rule("identity", "mac", "mac"),
            cn("a"),
            {"mac": "A"},
            "expected an identity whose mac is a MAC address such as 52:54:00:ab:cd:ef, got A (",
        ),
        (
            rule("template", "{a}-{b}"),
            cn("a"),
            {"a": "1-2", "b": "3"},
            "expected an identity whose a does not hold the separator '-', got 1-2 (",
        ),
        (
            rule("pattern", "dev-(?P<sn>[0-9]+)"),
            cn("dev-2"),
            {"sn": "1"},
            "expected subject.CN with sn 1, got dev-2 (rule: subject.CN matches dev-(?P<sn>[0-9]+))",
        ),
        (
            {"any": [CN_IS_MAC, DNS_IS_MAC]},
            ONE,
            {"mac": "c"},
            "expected subject.CN c or san.dns c.x, got a; b.x (rule: subject.CN equals mac or san.dns equals {mac}.x)",
        ),
    ],
)
def test_mismatches_say_what_was_expected_and_what_came(
    rules: Any, peer: PeerCertificate, attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(BindingMismatch) as caught:
        verify(rules, peer, identity(attributes))
    assert caught.value.what.startswith(text)
    assert caught.value.rule in caught.value.what
    assert "\n" not in caught.value.what


# For all values

TEXT = st.text(st.sampled_from("ab-.:K\u212aé\u0301\u00e9") | st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = TEXT | st.integers(-3, 3) | st.floats(-2, 2) | st.booleans() | st.none() | st.lists(TEXT, max_size=2)
ATTRIBUTES = st.dictionaries(st.sampled_from(["a", "b"]), VALUES, min_size=1)
HEX = st.integers(0, 2**48 - 1).map(lambda number: ":".join(f"{number:012x}"[i : i + 2] for i in range(0, 12, 2)))
COVERING = [
    [rule("identity", "a"), rule("identity", "b", field="san.uri")],
    [rule("template", "{a}-{b}")],
    [rule("template", "x{b}.{a}.{b}y")],
    [rule("template", "{a}--{b}")],
    [rule("identity", "a", "number"), rule("identity", "b", field="san.uri")],
    [rule("template", "{a}:{b}", "number")],
]


@pytest.mark.parametrize("rules", COVERING)
@given(data=st.data())
def test_one_certificate_never_fits_two_identities(rules: list[dict[str, Any]], data: st.DataObject) -> None:
    """Where the rules cover the identity; compared as Mender compares identities."""
    one, other = (identity(data.draw(st.fixed_dictionaries({"a": VALUES, "b": VALUES}))) for _ in range(2))
    # Of all certificates those are tried that one of the two would need.
    for claimed in (one, other):
        for name in likely_names(rules[0], claimed):
            peer = certificate({"subject.CN": name, "san.uri": str(claimed.attributes["b"])})
            if holds(rules, peer, one) and holds(rules, peer, other):
                assert one.normal_form == other.normal_form


def likely_names(first: dict[str, Any], claimed: Identity) -> list[str]:
    def fill(write: Any) -> str:
        text: str = first.get("template") or "{" + first["identity"] + "}"
        return text.replace("{a}", write(claimed.attributes["a"])).replace("{b}", write(claimed.attributes["b"]))

    return [fill(str), fill(json.dumps), fill(lambda value: f"{value:g}" if isinstance(value, float) else str(value))]


@given(one=TEXT, other=TEXT, third=TEXT, fourth=TEXT)
def test_templates_are_read_in_one_way(one: str, other: str, third: str, fourth: str) -> None:
    given_rule = rule("template", "{a}-{b}")
    first, second = identity({"a": one, "b": other}), identity({"a": third, "b": fourth})
    assume(first.normal_form != second.normal_form)
    for claimed in (f"{one}-{other}", f"{third}-{fourth}"):
        assert not (holds(given_rule, cn(claimed), first) and holds(given_rule, cn(claimed), second))


@given(address=HEX, spelling=st.sampled_from(["{}", "{:-}", "{:.}", "{:0}"]), upper=st.booleans(), other=HEX | TEXT)
def test_a_mac_is_one_device_however_the_certificate_spells_it(
    address: str, spelling: str, upper: bool, other: str
) -> None:
    digits = address.replace(":", "")
    spelled = {
        "{}": address,
        "{:-}": address.replace(":", "-"),
        "{:.}": f"{digits[:4]}.{digits[4:8]}.{digits[8:]}",
        "{:0}": digits,
    }[spelling]
    peer = cn(spelled.upper() if upper else spelled)
    given_rule = rule("identity", "mac", "mac")
    assert holds(given_rule, peer, identity({"mac": address}))
    for wrong in {other, address.upper(), digits, address.replace(":", "-")} - {address}:
        assert not holds(given_rule, peer, identity({"mac": wrong}))


@given(attributes=ATTRIBUTES, name=TEXT)
def test_equality_holds_only_for_that_very_text(attributes: dict[str, Any], name: str) -> None:
    for value in (name, *(value for value in attributes.values() if isinstance(value, str))):
        claimed = identity(attributes)
        mine = attributes.get("a")
        assert holds(rule("identity", "a"), cn(value), claimed) == (isinstance(mine, str) and mine == value != "")
        if holds(rule("identity", "a", "ignore_case"), cn(value), claimed):
            assert isinstance(mine, str)
            assert mine.encode().lower() == value.encode().lower()


@given(attributes=ATTRIBUTES, name=TEXT, template=st.lists(st.sampled_from(["{a}", "{b}", "-", "x", "{{"]), max_size=5))
def test_a_template_that_holds_is_filled_with_the_identity(
    attributes: dict[str, Any], name: str, template: list[str]
) -> None:
    text = "".join(template)
    filled = "".join(
        {"{a}": str(attributes.get("a")), "{b}": str(attributes.get("b")), "{{": "{"}.get(part, part)
        for part in template
    )
    try:
        parse_binding({"rules": [rule("template", text)]})
    except MalformedBinding:
        return
    for value in (name, filled):
        if holds(rule("template", text), cn(value), identity(attributes)):
            assert value == filled
            assert all(isinstance(attributes[key], str) for key in "ab" if f"{{{key}}}" in template)


@given(attributes=ATTRIBUTES, name=TEXT)
def test_a_pattern_that_holds_has_the_attributes_in_its_groups(attributes: dict[str, Any], name: str) -> None:
    given_rule = rule("pattern", r"(?P<a>[^-]*)-(?P<b>.*)")
    for value in (name, f"{attributes.get('a')}-{attributes.get('b')}"):
        if holds(given_rule, cn(value), identity(attributes)):
            before, _, after = value.partition("-")
            assert (attributes["a"], attributes["b"]) == (before, after)


@given(attributes=ATTRIBUTES, values=st.tuples(st.booleans(), st.booleans()))
def test_all_and_any_are_and_and_or(attributes: dict[str, Any], values: tuple[bool, bool]) -> None:
    claimed = identity({**attributes, "mac": "a"})
    peer = certificate({"subject.CN": "a" if values[0] else "b", "san.dns": "a.x" if values[1] else "b.x"})
    assert holds([CN_IS_MAC, DNS_IS_MAC], peer, claimed) == all(values)
    assert holds({"any": [CN_IS_MAC, DNS_IS_MAC]}, peer, claimed) == any(values)


@given(spaces=st.sampled_from(["", " ", "\n\t"]), number=st.sampled_from(["1", "1.0", "1e0", "10e-1", "1.00E+0"]))
def test_two_spellings_of_an_identity_are_one_to_a_rule(spaces: str, number: str) -> None:
    claimed = parse_identity(f'{{{spaces}"n":{spaces}{number},{spaces}"\\u006dac":"\\u0061"}}')
    assert claimed.normal_form == '{"mac":"a","n":1}'
    verify(
        [CN_IS_MAC, rule("identity", "n", "number", "san.uri")],
        certificate({"subject.CN": "a", "san.uri": "1"}),
        claimed,
    )


def test_very_long_values_are_compared_and_cut_in_messages() -> None:
    long = "x" * 4_000
    verify(CN_IS_MAC, cn(long), identity({"mac": long}))
    with pytest.raises(BindingMismatch) as caught:
        verify(CN_IS_MAC, cn(long), identity({"mac": f"{long}y"}))
    assert len(caught.value.what) < 300
