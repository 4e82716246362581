"""`config.settings`: defaults, relations between settings, and what must never show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.config.values import ListenAddress

LEAST = {"mender_backend": "https://hosted.mender.io", "mender_user": "a@b.c", "mender_pass": "hunter2"}


def settings(**given: Any) -> Settings:
    return Settings.model_validate({**LEAST, **given})


def test_the_keys_of_the_original_ambassador_keep_name_and_default() -> None:
    defaults = settings()
    assert defaults.listen == ListenAddress(None, 8080)
    assert defaults.server_cert == Path("/etc/mtls/certs/server/server.crt")
    assert defaults.server_key == Path("/etc/mtls/certs/server/server.key")
    assert defaults.tenant_ca_pem == Path("/etc/mtls/certs/tenant-ca/tenant.ca.pem")
    assert defaults.debug_log is False
    assert defaults.insecure_skip_verify is False


def test_what_is_unsafe_is_off_by_default() -> None:
    defaults = settings()
    assert defaults.require_same_key
    assert defaults.allowed_paths == ("/api/devices/",)
    assert defaults.health_listen == ListenAddress("127.0.0.1", 8081)
    assert defaults.admin_listen == ListenAddress("127.0.0.1", 8082)


@pytest.mark.parametrize(
    ("given", "key", "other"),
    [
        ({"health_listen": "18081", "admin_listen": "18081"}, "health_listen", "admin_listen"),
        ({"listen": "18080", "health_listen": "127.0.0.1:18080"}, "listen", "health_listen"),
        ({"listen": "8081"}, "listen", "health_listen"),
        ({"health_listen": "8080"}, "health_listen", "listen"),
        ({"admin_listen": "127.0.0.1:8081"}, "admin_listen", "health_listen"),
        ({"listen": "[::]:1", "admin_listen": "10.0.0.1:1"}, "listen", "admin_listen"),
        ({"listen": "0.0.0.0:1", "admin_listen": "10.0.0.1:1"}, "listen", "admin_listen"),
        ({"listen": "[::1]:1", "admin_listen": "[0:0:0:0:0:0:0:1]:1"}, "listen", "admin_listen"),
    ],
)
def test_two_listeners_at_one_address_are_refused(given: dict[str, str], key: str, other: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key}\|.* is where {other} listens too"):
        settings(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"listen": "0", "health_listen": "0", "admin_listen": "0"},
        {"listen": "10.0.0.1:1", "health_listen": "10.0.0.2:1", "admin_listen": "10.0.0.1:2"},
        {"listen": "0.0.0.0:1", "health_listen": "[::1]:1"},
    ],
)
def test_listeners_that_do_not_meet(given: dict[str, str]) -> None:
    settings(**given)


def test_every_setting_says_what_it_is() -> None:
    for key, field in Settings.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key
        assert key == key.lower()


def test_secrets_are_settings() -> None:
    assert set(Settings.model_fields) >= SECRET_KEYS
    for key in SECRET_KEYS:
        assert "SecretStr" in str(Settings.model_fields[key].annotation)


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        ({"mender_user": None, "mender_pass": None}, "mender_user"),
        ({"mender_user": "", "mender_pass": "x"}, "mender_user"),
        ({"mender_user": None, "mender_pass": "x"}, "mender_user"),
        ({"mender_pass": None}, "mender_pass"),
        ({"mender_token": "t"}, "mender_token"),
        ({"mender_token": "t", "mender_user": None}, "mender_token"),
        ({"mender_token": "t", "mender_pass": None}, "mender_token"),
    ],
)
def test_credentials_are_a_user_with_a_password_or_a_token(given: dict[str, Any], subject: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    (problem,) = caught.value.errors()
    key, what, remedy = str(problem["ctx"]["error"]).split("|")
    assert key == subject
    assert "set" in what
    assert remedy.endswith(".")


def test_a_token_is_enough() -> None:
    token = settings(mender_user=None, mender_pass=None, mender_token="t").mender_token
    assert token is not None
    assert token.get_secret_value() == "t"


@pytest.mark.parametrize(
    ("backend", "in_clear"),
    [
        ("https://mender", False),
        ("http://mender", True),
        ("http://10.0.0.1", True),
        ("http://localhost:8080", False),
        ("http://127.0.0.2", False),
        ("http://[::1]", False),
    ],
)
def test_credentials_in_clear_are_known(backend: str, in_clear: bool) -> None:
    assert settings(mender_backend=backend).sends_credentials_in_clear is in_clear


@pytest.mark.parametrize("version", [1.2, "1.2", 1.3, "1.3"])
def test_a_tls_version_may_be_a_number(version: object) -> None:
    assert settings(tls_min_version=version).tls_min_version == str(version)


@pytest.mark.parametrize("version", ["1.1", 1, "TLS1.2", True, None])
def test_other_tls_versions_are_refused(version: object) -> None:
    with pytest.raises(ValidationError):
        settings(tls_min_version=version)


@pytest.mark.parametrize("given", [{"handshake_timeout": 0}, {"access_log": "none"}, {"log_format": "xml"}])
def test_values_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_settings_cannot_be_changed_or_extended() -> None:
    with pytest.raises(ValidationError):
        settings(listn=8080)
    with pytest.raises(ValidationError):
        settings().debug_log = True


def test_secrets_show_in_no_representation_and_no_error() -> None:
    shown = settings()
    assert "hunter2" not in f"{shown!r} {shown!s} {shown.model_dump_json(exclude={'listen', 'mender_backend'})}"
    with pytest.raises(ValidationError) as caught:
        settings(mender_token="hunter3", listen="x")
    assert "hunter" not in f"{caught.value!r} {caught.value!s}"


def test_the_ledger_is_a_file_unless_said_otherwise_and_its_url_is_secret() -> None:
    assert settings().ledger_url is None
    assert settings().ledger_retention == 90 * 86400
    shared = settings(ledger_url="postgresql://edge:geheim@db/ledger", ledger_retention="30d")
    assert shared.ledger_retention == 30 * 86400
    assert shared.ledger_url is not None
    assert shared.ledger_url.get_secret_value() == "postgresql://edge:geheim@db/ledger"
    assert "geheim" not in repr(shared)
    with pytest.raises(ValidationError) as caught:
        settings(ledger_url="mysql://edge:geheim@db/ledger")
    assert "geheim" not in str(caught.value)


def test_a_token_key_that_is_none_is_told_without_repeating_it() -> None:
    with pytest.raises(ValidationError, match="holds no private key in PEM") as caught:
        Settings.model_validate({"mender_backend": "https://x", "mender_token": "t", "token_key": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_tokens_are_not_bound_by_default() -> None:
    settings = Settings.model_validate({"mender_backend": "https://x", "mender_token": "t"})
    assert settings.bind_tokens is False
    assert settings.token_key is None
