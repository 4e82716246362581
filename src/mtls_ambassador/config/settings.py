"""The one frozen model of everything a user can set. Pure: it reads no file."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from mtls_ambassador.config.anchors import (
    SINGLE,
    Anchor,
    Credentials,
    IdentitiesPerCertificate,
    Rotation,
    Token,
    TrustAnchor,
    anchors_fault,
    credentials_fault,
    parse_trust_anchors,
)
from mtls_ambassador.config.binding import Binding
from mtls_ambassador.config.binding_form import GivenBinding
from mtls_ambassador.config.token_key import parse_token_keys
from mtls_ambassador.config.values import (
    AuditTarget,
    BackendUrl,
    ListenAddress,
    Rate,
    check_ledger_url,
    parse_allowed_paths,
    parse_audit_log,
    parse_backend,
    parse_deadline,
    parse_duration,
    parse_listen,
    parse_rate,
    parse_storage_paths,
)

Listen = Annotated[ListenAddress, BeforeValidator(parse_listen)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
AuthRate = Annotated[Rate | None, BeforeValidator(parse_rate)]


_LISTENERS = ("listen", "health_listen", "admin_listen")


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
    mender_token: Token | None = Field(
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
    trust_anchors: Annotated[tuple[TrustAnchor, ...], BeforeValidator(parse_trust_anchors)] = Field(
        default=(),
        description="Several CAs with different Mender users or rules, instead of tenant_ca_pem: a list of trust "
        "anchors. In the environment and on the command line it is JSON text.",
    )
    rotation: Rotation = Field(
        default="same-subject",
        description="When a new key may take over an identity that Mender knows with another key: same-subject "
        "(a newer certificate of the same subject), any (every valid certificate may; unsafe) or never.",
    )
    identities_per_certificate: IdentitiesPerCertificate = Field(
        default=1,
        description="How many devices one certificate may be: 1, or unlimited (unsafe: each holder of the certificate "
        "may then be any new device).",
    )
    adopt_until: Annotated[dt.datetime | None, BeforeValidator(parse_deadline)] = Field(
        default=None,
        description="Until then the first certificate that claims a device which Mender accepted before the edge "
        "came becomes its own: 2026-12-31 (its end, UTC) or 2026-12-31T18:00:00Z.",
    )
    auth_rate_per_certificate: AuthRate = Field(
        default=Rate(60, "m"),
        description="Auth requests that one certificate may send: so many at once, and as many again in that time "
        "(30/s, 60/m, 500/h), or off.",
    )
    auth_rate_per_address: AuthRate = Field(
        default=None,
        description="The same for one client address (of IPv6: one /64), or off. Behind carrier NAT or a balancer many "
        "devices share an address.",
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
    ledger_url: SecretStr | None = Field(
        default=None,
        description="Where the edge keeps what it has seen and decided, if not in ledger.sqlite3 in state_dir: "
        "postgresql://USER:PASSWORD@HOST/DATABASE, which several replicas share.",
    )
    ledger_retention: Seconds = Field(
        default=90 * 86400.0,
        ge=60,
        le=10 * 366 * 86400,
        description="How long the ledger's history of admissions and refusals is kept. Devices stay.",
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
    binding: GivenBinding = Field(
        default=Binding(),
        description="Rules that tie a device's identity to its certificate: a mapping, or JSON text in the environment "
        "and on the command line.",
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
    audit_log: Annotated[AuditTarget | None, BeforeValidator(parse_audit_log)] = Field(
        default=None,
        description="Where each admission, refusal and change goes as a line of JSON: a file, stdout, or off.",
    )
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

    @field_validator("ledger_url")
    @classmethod
    def _reachable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_ledger_url(url.get_secret_value())
        return url

    @field_validator("token_key")
    @classmethod
    def _signing(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_token_keys(keys.get_secret_value())
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.trust_anchors and "tenant_ca_pem" in self.model_fields_set:
            raise ValueError(
                "tenant_ca_pem|is set together with trust_anchors|"
                "Make it the `ca` of an anchor, or leave trust_anchors out."
            )
        for one, other in itertools.combinations(_LISTENERS, 2):
            here, there = getattr(self, one), getattr(self, other)
            if here.collides(there):
                key, rest = (one, other) if one in self.model_fields_set else (other, one)
                raise ValueError(
                    f"{key}|{getattr(self, key)} is where {rest} listens too: {getattr(self, rest)}|"
                    "Give listen, health_listen and admin_listen a port each."
                )
        above = self._credentials
        fault = anchors_fault(self.trust_anchors, above) if self.trust_anchors else credentials_fault(above)
        if fault is not None:
            raise ValueError("|".join(fault))
        return self

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """The trust anchors with all defaults filled in; without `trust_anchors` the one that the other keys make."""
        above = self._credentials
        rotation, identities, binding = self.rotation, self.identities_per_certificate, self.binding
        if not self.trust_anchors:
            return (Anchor(SINGLE, self.tenant_ca_pem, "tenant_ca_pem", above, rotation, identities, binding),)
        return tuple(
            Anchor(
                name=item.name,
                ca=item.ca,
                where=f"trust_anchors, {item.name}, ca",
                credentials=item.credentials or above,
                rotation=item.rotation or rotation,
                identities_per_certificate=item.identities_per_certificate or identities,
                binding=item.binding if item.binding is not None else binding,
            )
            for item in self.trust_anchors
        )

    @property
    def _credentials(self) -> Credentials:
        return Credentials(self.mender_user or None, self.mender_pass, self.mender_token)

    @property
    def sends_credentials_in_clear(self) -> bool:
        """Whether the management password travels unencrypted over a network."""
        return self.mender_backend.in_clear


SECRET_KEYS = frozenset({"ledger_url", "mender_pass", "mender_token", "token_key"})
"""Keys that may also be given as `<key>_file`, and never on the command line."""
