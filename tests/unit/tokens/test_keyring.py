"""`tokens.keyring`: the given keys, or one made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.tokens.keyring import FILE, token_keys
from mtls_ambassador.tokens.keys import TokenKeys, new_key_pem


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def settings(**given: object) -> Settings:
    return Settings.model_validate({"mender_backend": "https://x", "mender_token": "t", "bind_tokens": True, **given})


def own(state: Path) -> TokenKeys:
    keys = token_keys(settings(), state)
    assert keys is not None
    return keys


def test_without_bind_tokens_there_are_none(tmp_path: Path) -> None:
    assert token_keys(settings(bind_tokens=False, token_key=new_key_pem().decode()), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_keys_of_the_settings_win(tmp_path: Path) -> None:
    given = new_key_pem().decode()
    keys = token_keys(settings(token_key=given), tmp_path)
    assert keys is not None
    assert keys.jwks == TokenKeys.parse(given).jwks
    assert not list(tmp_path.iterdir())


def test_a_key_is_made_once(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    with capture_logs() as logged:
        first = own(state)
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in state.iterdir()] == [FILE]
    assert any("several edges need one token_key" in line["event"] for line in logged)
    assert own(state).signing.id == first.signing.id


@pytest.mark.parametrize("content", ["", "junk"])
def test_a_file_that_is_none_is_kept_and_told(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigurationError, match=r"(?s)token-key\.pem.*holds no private key in PEM.*Move it away"):
        own(tmp_path)
    assert (tmp_path / FILE).read_text() == content


def test_without_a_place_for_it_the_key_lives_as_long_as_the_edge(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logged:
        first, second = own(tmp_path / "file" / "state"), own(tmp_path / "file" / "state")
    assert first.signing.id != second.signing.id
    assert {line["log_level"] for line in logged} == {"warning"}


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    own(tmp_path)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        own(tmp_path)
