"""Trust anchors: whose CAs verify devices, and in whose name the edge admits those devices to Mender. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from mtls_ambassador.config.binding import Binding
from mtls_ambassador.config.binding_form import GivenBinding
from mtls_ambassador.config.formats import DuplicateKeyError, parse_json

ANCHOR_SECRETS = frozenset({"mender_pass", "mender_token"})
"""Keys of an anchor that may also be given as `<key>_file`, and never on the command line."""

SINGLE = "default"
"""Name of the one anchor of a configuration without `trust_anchors`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Rotation = Literal["same-subject", "any", "never"]
"""When a new key may take over an identity that Mender knows with another one."""


def _sendable(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is no token; a personal access token is one word of letters, digits and -._")
    return token


def _identities(value: object) -> object:
    texts: Mapping[str, object] = {"1": 1, "unlimited": "unlimited"}
    known = None if isinstance(value, bool) else texts.get(str(value).strip())
    if known is None:
        raise ValueError("is neither 1 nor unlimited; write 1, unless one certificate serves many devices")
    return known


def _anchor_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("is no name; write up to 64 letters, digits, dots, dashes or underscores")
    return value


Token = Annotated[SecretStr, AfterValidator(_sendable)]
IdentitiesPerCertificate = Annotated[Literal[1, "unlimited"], BeforeValidator(_identities)]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the edge is to Mender's management API: a token, or a user with a password."""

    user: str | None
    password: SecretStr | None
    token: SecretStr | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A trust anchor with everything that holds for its devices; nothing is left to a default any more."""

    name: str
    ca: Path
    """PEM file of its CAs."""
    where: str
    """What errors call the setting that names this file."""
    credentials: Credentials
    rotation: Rotation
    identities_per_certificate: Literal[1, "unlimited"]
    binding: Binding = field(default_factory=Binding)


class TrustAnchor(BaseModel):
    """One entry of `trust_anchors`. Each field's description is its line in the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, AfterValidator(_anchor_name)] = Field(description="Its name in logs and on the admin page.")
    ca: Path = Field(description="PEM file of its CAs: roots and intermediates.")
    mender_user: str | None = Field(
        default=None,
        description="E-mail of the Mender user that admits its devices. Default: the credentials of the top level.",
    )
    mender_pass: SecretStr | None = Field(default=None, description="That user's password; or mender_pass_file.")
    mender_token: Token | None = Field(
        default=None, description="A personal access token instead of user and password; or mender_token_file."
    )
    binding: GivenBinding | None = Field(
        default=None, description="Identity binding of its devices. Default: as at the top level."
    )
    rotation: Rotation | None = Field(
        default=None,
        description="When a new key may take over an identity of its devices. Default: as at the top level.",
    )
    identities_per_certificate: IdentitiesPerCertificate | None = Field(
        default=None, description="1 or unlimited. Default: as at the top level."
    )

    @property
    def credentials(self) -> Credentials | None:
        """Its own credentials, if it has any."""
        if self.mender_user is None and self.mender_pass is None and self.mender_token is None:
            return None
        return Credentials(self.mender_user, self.mender_pass, self.mender_token)


def credentials_fault(credentials: Credentials) -> tuple[str, str, str] | None:
    """The key that is wrong about credentials, what is wrong, and what to do; None: they are complete."""
    user, password, token = credentials.user, credentials.password, credentials.token
    if token is not None:
        both = user or password
        fault = ("mender_token", "is set together with mender_user or mender_pass", "Keep one of the two ways.")
        return fault if both else None
    if not user and password is None:
        return (
            "mender_user",
            "is not set, nor is mender_token",
            "Set mender_user and mender_pass, or mender_token, so that the edge can admit devices.",
        )
    if password is None:
        return "mender_pass", "is not set, though mender_user is", "Set mender_pass or mender_pass_file."
    if not user:
        return "mender_user", "is not set, though mender_pass is", "Set mender_user."
    return None


def anchors_fault(anchors: tuple[TrustAnchor, ...], above: Credentials) -> tuple[str, str, str] | None:
    """The first thing wrong about anchors beside each other, or their credentials, as `credentials_fault` words it.

    Args:
        anchors: At least one.
        above: The top-level credentials, which anchors without their own use.
    """
    for index, anchor in enumerate(anchors):
        if anchor.name in {earlier.name for earlier in anchors[:index]}:
            return f"trust_anchors, {anchor.name}", "stands there twice", "Give each anchor a name of its own."
    for anchor in anchors:
        own = anchor.credentials
        fault = credentials_fault(own or above)
        if fault is None:
            continue
        key, what, remedy = fault
        if own is not None:
            return f"trust_anchors, {anchor.name}, {key}", what, remedy
        if above == Credentials(None, None, None):
            remedy = (
                f"Set mender_token, or mender_user and mender_pass, in the anchor {anchor.name} or for all anchors."
            )
            return f"trust_anchors, {anchor.name}", "has no credentials, and there are none for all anchors", remedy
        return fault
    return None


def parse_trust_anchors(value: object) -> list[dict[str, Any]]:
    """Read a list of mappings, or JSON text of one, or HCL blocks, whose label is the name.

    Returns:
        One mapping per anchor, keys in lower case, its values as they were given.

    Raises:
        ValueError: it is none of these. The text quotes nothing, since there may be secrets.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except DuplicateKeyError as error:
            raise ValueError(f"says {error.key} twice, {error.place}; keep one") from None
        except (ValueError, RecursionError):
            raise ValueError(f"is not JSON; {_EXAMPLE}") from None
    if not isinstance(value, list | tuple) or not all(isinstance(item, dict | TrustAnchor) for item in value):
        raise ValueError(f"is not a list of trust anchors; {_EXAMPLE}")
    return [item.model_dump() if isinstance(item, TrustAnchor) else _unlabelled(item) for item in value]


_EXAMPLE = 'write [{"name": "plant-1", "ca": "/etc/mtls/plant-1.pem", "mender_token_file": "/run/secrets/plant-1"}]'


def _unlabelled(item: Mapping[Any, Any]) -> dict[str, Any]:
    if len(item) == 1:
        ((label, content),) = item.items()
        if isinstance(content, dict):
            item = {"name": label, **content}
    anchor = {str(key).lower(): value for key, value in item.items() if value is not None}
    match anchor.get("binding"):
        case [dict() as block]:  # an HCL block
            anchor["binding"] = block
    return anchor
