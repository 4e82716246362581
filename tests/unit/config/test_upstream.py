"""The Mender Server and the credentials alone, with the same errors as the edge's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.upstream import Upstream, load_upstream

BACKEND = {"MTLS_MENDER_BACKEND": "https://Hosted.Mender.io"}


def load(environment: dict[str, str], directory: Path, **options: object) -> Upstream:
    return load_upstream(None, environment, options, default_file=directory / "config.yaml")


def test_file_environment_and_command_line(tmp_path: Path) -> None:
    # Nothing else of the configuration is looked at.
    text = "mender_backend: https://a\nmender_user: u\nmender_pass: p\nlisten: nonsense\nserver_cert: /gone\n"
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "config.yaml").chmod(0o600)
    (tmp_path / "pass").write_text("secret\n")
    found = load({**BACKEND, "MTLS_INSECURE_SKIP_VERIFY": "true"}, tmp_path, mender_pass_file=str(tmp_path / "pass"))
    assert (found.mender_backend.host, found.insecure_skip_verify) == ("hosted.mender.io", True)
    assert found.credentials.user == "u"
    assert found.credentials.password is not None
    assert found.credentials.password.get_secret_value() == "secret"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"MTLS_MENDER_TOKEN": "t"}, "mender_backend: is not set"),
        ({**BACKEND}, "mender_user: is not set, nor is mender_token"),
        ({**BACKEND, "MTLS_MENDER_USER": "u"}, "mender_pass: is not set"),
        ({**BACKEND, "MTLS_MENDER_USER": "u", "MTLS_MENDER_TOKEN": "t"}, "mender_token"),
        ({**BACKEND, "MTLS_MENDER_TOKEN": "t t"}, "mender_token"),
        ({"MTLS_MENDER_BACKEND": "x", "MTLS_MENDER_TOKEN": "t"}, "mender_backend"),
        ({**BACKEND, "MTLS_MENDER_TOKEN_FILE": "/gone"}, "mender_token_file"),
        ({**BACKEND, "MTLS_MENDER_TOKEN": "t", "MTLS_INSECURE_SKIP_VERIFY": "perhaps"}, "insecure_skip_verify"),
    ],
)
def test_what_is_wrong_is_named(environment: dict[str, str], fault: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environment, tmp_path)
    assert fault in str(caught.value)
