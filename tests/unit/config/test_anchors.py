"""`config.anchors`: how trust anchors may be written, what is inherited, and what is wrong about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from mtls_ambassador.config.anchors import Credentials, TrustAnchor, parse_trust_anchors
from mtls_ambassador.config.binding import BindingMode
from mtls_ambassador.config.settings import Settings

BACKEND = {"mender_backend": "https://hosted.mender.io"}
ONE: dict[str, Any] = {"name": "plant-1", "ca": "/one.pem", "mender_token": "token-1"}
TWO: dict[str, Any] = {"name": "plant-2", "ca": "/two.pem", "mender_user": "a@b.c", "mender_pass": "pass-2"}


def settings(*anchors: dict[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({**BACKEND, **({"trust_anchors": list(anchors)} if anchors else {}), **more})


def fault(*anchors: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(*anchors, **more)
    (error,) = caught.value.errors()
    assert "pass-2" not in str(caught.value)
    return str(error["ctx"]["error"])


def test_one_ca_is_one_anchor() -> None:
    (anchor,) = settings(mender_token="t", tenant_ca_pem="/ca.pem").anchors
    assert (anchor.name, anchor.ca, anchor.where) == ("default", Path("/ca.pem"), "tenant_ca_pem")
    assert anchor.credentials == Credentials(None, None, SecretStr("t"))
    assert (anchor.rotation, anchor.identities_per_certificate) == ("same-subject", 1)


def test_one_ca_has_the_rules_of_the_top_level() -> None:
    (anchor,) = settings(mender_token="t", rotation="never", identities_per_certificate="unlimited").anchors
    assert (anchor.rotation, anchor.identities_per_certificate) == ("never", "unlimited")


def test_anchors_have_their_own_credentials() -> None:
    one, two = settings(ONE, TWO).anchors
    assert one.credentials == Credentials(None, None, SecretStr("token-1"))
    assert two.credentials == Credentials("a@b.c", SecretStr("pass-2"), None)
    assert one.where == "trust_anchors, plant-1, ca"


def test_anchors_inherit_what_they_do_not_say() -> None:
    bare = {"name": "plant-3", "ca": "/three.pem"}
    rules = [{"certificate": "subject.CN", "identity": "mac"}]
    own = {**ONE, "rotation": "any", "identities_per_certificate": 1, "binding": {"mode": "warn", "rules": rules}}
    mine, inherited = settings(
        own, bare, mender_token="t", rotation="never", identities_per_certificate="unlimited"
    ).anchors
    assert (mine.rotation, mine.identities_per_certificate) == ("any", 1)
    assert (mine.binding.mode, inherited.binding.mode) == (BindingMode.WARN, BindingMode.OFF)
    assert (inherited.rotation, inherited.identities_per_certificate) == ("never", "unlimited")
    assert inherited.credentials == Credentials(None, None, SecretStr("t"))


def test_secrets_are_not_shown() -> None:
    for shown in (repr(settings(ONE, TWO)), repr(settings(ONE, TWO).anchors), str(settings(ONE, TWO).trust_anchors)):
        assert "token-1" not in shown
        assert "pass-2" not in shown


@pytest.mark.parametrize(
    ("anchors", "more", "expected"),
    [
        ((ONE, ONE), {}, "trust_anchors, plant-1|stands there twice|"),
        ((ONE, {"name": "b", "ca": "/b"}), {}, "trust_anchors, b|has no credentials, and there are none for all"),
        ((ONE, {**TWO, "mender_token": "t"}), {}, "trust_anchors, plant-2, mender_token|is set together with"),
        (({**TWO, "mender_pass": None},), {}, "trust_anchors, plant-2, mender_pass|is not set, though"),
        (({**TWO, "mender_user": None},), {}, "trust_anchors, plant-2, mender_user|is not set, though"),
        (({"name": "b", "ca": "/b"},), {"mender_user": "a@b.c"}, "mender_pass|is not set, though"),
        ((ONE,), {"tenant_ca_pem": "/ca.pem"}, "tenant_ca_pem|is set together with trust_anchors|"),
    ],
)
def test_what_does_not_fit_together_is_refused(anchors: Any, more: dict[str, Any], expected: str) -> None:
    found = fault(*anchors, **more)
    assert found.startswith(expected)
    assert found.count("|") == 2


@pytest.mark.parametrize("name", ["", "a b", "ü", "-a", "a/b", "a" * 65, "a\n", None, 7])
def test_names_can_stand_in_a_log_line(name: Any) -> None:
    with pytest.raises(ValidationError):
        settings({**ONE, "name": name})


@pytest.mark.parametrize("value", [0, 2, "", "many", True, None, 1.5])
def test_a_certificate_is_one_device_or_any_number(value: Any) -> None:
    with pytest.raises(ValidationError):
        settings(ONE, identities_per_certificate=value)
    assert settings(ONE, identities_per_certificate="1").identities_per_certificate == 1


@pytest.mark.parametrize(
    "written",
    [
        [{"name": "a", "ca": "/a"}, {"name": "b", "ca": "/b"}],
        ({"Name": "a", "CA": "/a", "mender_user": None}, {"name": "b", "ca": "/b"}),
        json.dumps([{"name": "a", "ca": "/a"}, {"name": "b", "ca": "/b"}]),
        [{"a": {"ca": "/a"}}, {"b": {"ca": "/b"}}],
    ],
    ids=["list", "case", "JSON", "HCL blocks"],
)
def test_forms_of_a_list(written: object) -> None:
    assert parse_trust_anchors(written) == [{"name": "a", "ca": "/a"}, {"name": "b", "ca": "/b"}]


def test_a_block_inside_a_block() -> None:
    assert parse_trust_anchors([{"a": {"binding": [{"mode": "warn"}]}}]) == [{"name": "a", "binding": {"mode": "warn"}}]


@pytest.mark.parametrize(
    "written", ["pass-2", '{"pass-2": 1}', '["pass-2"]', {"a": "pass-2"}, 7, ["pass-2"], [["pass-2"]]]
)
def test_what_is_no_list_of_anchors_is_refused_without_quoting_it(written: object) -> None:
    with pytest.raises(ValueError, match="; write") as caught:
        parse_trust_anchors(written)
    assert "pass-2" not in str(caught.value)


def test_every_field_says_what_it_is() -> None:
    for key, field in TrustAnchor.model_fields.items():
        assert field.description, key
