"""The Mender Server and who we are there, for who calls its management API without an edge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from mtls_ambassador.config.anchors import Credentials, Token, credentials_fault
from mtls_ambassador.config.sources import chosen_file, gather, validate
from mtls_ambassador.config.values import BackendUrl, parse_backend

_KEYS = (
    "mender_backend",
    "mender_user",
    "mender_pass",
    "mender_pass_file",
    "mender_token",
    "mender_token_file",
    "mender_ca",
    "insecure_skip_verify",
)


class Upstream(BaseModel):
    """What the settings of these names say."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    mender_backend: Annotated[BackendUrl, BeforeValidator(parse_backend)]
    mender_user: str | None = None
    mender_pass: SecretStr | None = None
    mender_token: Token | None = None
    mender_ca: Path | None = None
    insecure_skip_verify: bool = False

    @property
    def credentials(self) -> Credentials:
        """They are complete."""
        return Credentials(self.mender_user or None, self.mender_pass, self.mender_token)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        fault = credentials_fault(self.credentials)
        if fault is not None:
            raise ValueError("|".join(fault))
        return self


def load_upstream(
    config_file: Path | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, object],
    *,
    default_file: Path = Path("config.yaml"),
) -> Upstream:
    """Read it from where `sources.load` reads settings, with the same arguments; no other setting is looked at.

    Raises:
        ConfigurationError: with every problem found.
    """
    return validate(gather(_KEYS, chosen_file(config_file, default_file), environment, command_line), Upstream)
