"""Tokens are JWTs signed with RS256, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mtls_ambassador.lab.server.tokens import Signer, TokenRefused, bearer, device_claims, user_claims

SIGNER = Signer()
NOW = 1_800_000_000.5


def part(token: str, number: int) -> Any:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def forged(header: object, claims: object) -> str:
    texts = [base64.urlsafe_b64encode(json.dumps(item).encode()).rstrip(b"=").decode() for item in (header, claims)]
    return ".".join([*texts, ""])


def test_a_device_token_says_what_menders_says() -> None:
    token = SIGNER.sign(device_claims("set", "device", NOW, 604800))
    assert part(token, 0) == {"alg": "RS256", "typ": "JWT"}
    claims = part(token, 1)
    assert claims | {"mender.addons": []} == {
        "jti": "set",
        "sub": "device",
        "iss": "Mender",
        "exp": 1_800_604_801,
        "iat": 1_800_000_000,
        "nbf": -62135596800,
        "mender.device": True,
        "mender.plan": "enterprise",
        "mender.trial": False,
        "mender.addons": [],
    }
    assert {item["name"]: item["enabled"] for item in claims["mender.addons"]} == {
        "configure": True,
        "troubleshoot": True,
        "monitor": True,
    }
    assert SIGNER.verify(token, NOW) == claims


def test_a_user_token_says_what_menders_says() -> None:
    token = SIGNER.sign(user_claims("token", "user", NOW, NOW + 60), kid=0)
    assert part(token, 0)["kid"] == 0
    claims = part(token, 1)
    assert (claims["iss"], claims["scp"], claims["mender.user"]) == ("mender.useradm", "mender.*", True)
    assert "exp" not in part(SIGNER.sign(user_claims("token", "user", NOW, None)), 1)


def test_an_expired_token_is_refused() -> None:
    token = SIGNER.sign(device_claims("set", "device", NOW, 1))
    SIGNER.verify(token, NOW + 1)
    with pytest.raises(TokenRefused):
        SIGNER.verify(token, NOW + 1.5)


def test_the_key_survives_in_its_text_form() -> None:
    assert Signer(SIGNER.pem()).verify(SIGNER.sign({"jti": "x"}), NOW) == {"jti": "x"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "..",
        "a.b.c",
        "ä.ä.ä",
        Signer().sign({"jti": "x"}),
        SIGNER.sign({"jti": "x"})[:-4] + "AAAA",
        SIGNER.sign({"jti": "x"}) + "AAAA",
        SIGNER.sign({"jti": "x"}) + ".x",
        SIGNER.sign({"jti": "x", "exp": "never"}),
        forged({"alg": "none"}, {"jti": "x"}),
        forged({"alg": "HS256"}, {"jti": "x"}),
        SIGNER.sign({"jti": "x"}, alg="none"),
        SIGNER.sign([]),  # type: ignore[arg-type]
    ],
)
def test_everything_else_is_refused(token: str) -> None:
    with pytest.raises(TokenRefused, match="invalid jwt"):
        SIGNER.verify(token, NOW)


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_bearer(header: str) -> None:
    assert bearer(header) == "abc"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b"])
def test_no_bearer(header: str) -> None:
    with pytest.raises(TokenRefused):
        bearer(header)
