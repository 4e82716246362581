"""The one frozen model of everything a user can set. Pure: it reads no file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from mtls_ambassador.config.token_key import parse_token_keys
from mtls_ambassador.config.values import (
    BackendUrl,
    ListenAddress,
    parse_allowed_paths,
    parse_backend,
    parse_duration,
    parse_listen,
    parse_storage_paths,
)

Listen = Annotated[ListenAddress, BeforeValidator(parse_listen)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]


def _off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class Settings(BaseModel):
    """What the user said, checked. Each field's description is its line in the reference and in `--help`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True, hide_input_in_errors=True
    )

    listen: Listen = Field(
        default=ListenAddress(None, 8080),
        description="Where devices connect: 8080, :8080, 0.0.0.0:8080 or [::]:8080. Without a host: IPv4 and IPv6.",
    )
    mender_backend: Annotated[BackendUrl, BeforeValidator(parse_backend)] = Field(
        description="URL of the Mender Server, such as https://hosted.mender.io."
    )
    mender_user: str | None = Field(
        default=None, description="E-mail of the Mender user that admits devices (with mender_pass)."
    )
    mender_pass: SecretStr | None = Field(default=None, description="That user's password.")
    mender_token: SecretStr | None = Field(
        default=None,
        description="A personal access token of that user, instead of mender_user and mender_pass. "
        "Needed for accounts with two-factor authentication, and better for several replicas.",
    )
    mender_ca: Path | None = Field(
        default=None,
        description="PEM file of the CAs trusted for the Mender Server, instead of the system's.",
    )
    server_cert: Path = Field(
        default=Path("/etc/mtls/certs/server/server.crt"),
        description="PEM file of the certificate (and its intermediates) shown to devices.",
    )
    server_key: Path = Field(
        default=Path("/etc/mtls/certs/server/server.key"), description="PEM file of its private key."
    )
    tenant_ca_pem: Path = Field(
        default=Path("/etc/mtls/certs/tenant-ca/tenant.ca.pem"),
        description="PEM file of the CAs (roots and intermediates) that sign device certificates.",
    )
    debug_log: bool = Field(default=False, description="Log in detail, and show tracebacks of our own faults.")
    insecure_skip_verify: bool = Field(
        default=False,
        description="Do not verify the Mender Server's certificate. Unsafe; for evaluation only.",
    )
    tls_min_version: Annotated[Literal["1.2", "1.3"], BeforeValidator(str)] = Field(
        default="1.2", description="Lowest TLS version a device may use: 1.2 or 1.3."
    )
    health_listen: Listen = Field(
        default=ListenAddress("127.0.0.1", 8081),
        description="Where probes ask: /status, /livez, /readyz. Plain HTTP, changes nothing.",
    )
    admin_listen: Listen = Field(
        default=ListenAddress("127.0.0.1", 8082),
        description="Where the operator asks what the edge is doing (JSON at /). Plain HTTP: keep it on loopback.",
    )
    state_dir: Path | None = Field(
        default=None,
        description="Directory for what must survive a restart. Default: $STATE_DIRECTORY, else "
        "/var/lib/mtls-ambassador for root, else ~/.local/state/mtls-ambassador.",
    )
    allowed_paths: Annotated[tuple[str, ...], BeforeValidator(parse_allowed_paths)] = Field(
        default=("/api/devices/",),
        description="Path prefixes, all under /api/devices/, that devices may reach.",
    )
    storage_paths: Annotated[tuple[str, ...], BeforeValidator(parse_storage_paths)] = Field(
        default=(),
        description="Path prefixes outside /api/, each with a slash at its end, where Mender's host serves artifacts "
        "itself; devices may read them (GET, HEAD).",
    )
    require_same_key: bool = Field(
        default=True,
        description="The key in a device's auth request must be its certificate's key. false allows a separate key "
        "(C++ clients without Security.AuthPrivateKey), and lets any device replay an auth request it has seen.",
    )
    bind_tokens: bool = Field(
        default=False,
        description="Give each device a token of its own that is good with its certificate only. Turning it on or off "
        "costs each device one more authentication.",
    )
    token_key: SecretStr | None = Field(
        default=None,
        description="The keys of bound tokens: P-256 private keys, PEM. The first signs, all verify. Several edges "
        "need the same. Default: a key of this edge's own, made once and kept in state_dir.",
    )
    access_log: Annotated[Literal["all", "errors", "off"], BeforeValidator(_off)] = Field(
        default="errors", description="Requests to log: all, errors (4xx and 5xx) or off."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Form of log lines: text or json.")
    shutdown_grace: Seconds = Field(
        default=8.0,
        le=86400,
        description="How long requests in progress may take to finish when the edge is stopped.",
    )
    handshake_timeout: Seconds = Field(
        default=60.0,
        ge=0.1,
        le=3600,
        description="How long a TLS handshake may take; secure elements need up to a minute.",
    )
    envoy_path: Path | None = Field(
        default=None, description="Another Envoy binary than the packaged one; its version is checked."
    )

    @field_validator("mender_token")
    @classmethod
    def _sendable(cls, token: SecretStr | None) -> SecretStr | None:
        text = token.get_secret_value() if token else ""
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("is no token; a personal access token is one word of letters, digits and -._")
        return token

    @field_validator("token_key")
    @classmethod
    def _signing(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_token_keys(keys.get_secret_value())
        return keys

    @model_validator(mode="after")
    def _credentials(self) -> Settings:
        if self.mender_token is not None and (self.mender_user or self.mender_pass):
            raise ValueError("mender_token|is set together with mender_user or mender_pass|Keep one of the two ways.")
        if self.mender_token is None and not self.mender_user and self.mender_pass is None:
            raise ValueError(
                "mender_user|is not set, nor is mender_token|"
                "Set mender_user and mender_pass, or mender_token, so that the edge can admit devices."
            )
        if self.mender_token is None and self.mender_pass is None:
            raise ValueError("mender_pass|is not set, though mender_user is|Set mender_pass or mender_pass_file.")
        if self.mender_token is None and not self.mender_user:
            raise ValueError("mender_user|is not set, though mender_pass is|Set mender_user.")
        return self

    @property
    def sends_credentials_in_clear(self) -> bool:
        """Whether the management password travels unencrypted over a network."""
        if self.mender_backend.tls or self.mender_backend.host == "localhost":
            return False
        return not (self.mender_backend.is_address and ipaddress.ip_address(self.mender_backend.host).is_loopback)


SECRET_KEYS = frozenset({"mender_pass", "mender_token", "token_key"})
"""Keys that may also be given as `<key>_file`, and never on the command line."""
