"""Bound tokens in Envoy: verified, compared with the connection's certificate, and unwrapped on each request. Pure.

Both filters are off until a route turns them on. A route to Mender either requires a token, and then Mender sees the
one inside it and no other, or has no token at all.
"""

from __future__ import annotations

from typing import Any

from mtls_ambassador.edge import access_log
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.tokens.bound import CONFIRMATION, ISSUER, WRAPPED

Json = dict[str, Any]

DENIED = "jwt_authn_access_denied"
"""How Envoy's response code details begin where there is no valid token."""
MISMATCH = "rbac_access_denied_matched_policy[none]"
"""Those of a valid token on another certificate's connection: no policy allows it."""
UNKNOWN_KEY = (
    f"{DENIED}{{Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt}}",
    f"{DENIED}{{Jwt_verification_fails}}",
)
"""Those of a token that says it is of this edge, has not expired, and bears no signature of our keys."""

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_VERIFIED = "envoy.filters.http.jwt_authn"
"""The filter's name, and where it leaves the claims."""
_COMPARED = "token-binding"
_CLAIMS = "claims"
_REQUIREMENT = "bound"
TOKEN_OF = f"%DYNAMIC_METADATA({_VERIFIED}:{_CLAIMS}:{':'.join(CONFIRMATION)})%"
"""Operator for the certificate that a verified token was handed out to."""
_REMEMBERED = 1000
"""Tokens per worker that need no second verification: for what a device asks within seconds. One costs 15 kB."""


def filters(jwks: str) -> list[Json]:
    """Both filters, in their order, turned off.

    Args:
        jwks: The public keys as a JWK set.
    """
    verify = {
        "@type": f"{_HTTP}.jwt_authn.v3.JwtAuthentication",
        "providers": {
            ISSUER: {
                "issuer": ISSUER,
                "require_expiration": True,
                "local_jwks": {"inline_string": jwks},
                # Without it, Envoy also takes ?access_token=.
                "from_headers": [
                    {"name": "authorization", "value_prefix": "Bearer "},
                    {"name": "authorization", "value_prefix": "bearer "},  # as Mender does
                ],
                "payload_in_metadata": _CLAIMS,
                "jwt_cache_config": {"jwt_cache_size": _REMEMBERED},
            }
        },
        "requirement_map": {_REQUIREMENT: {"provider_name": ISSUER}},
        "strip_failure_response": True,  # it would quote the URL
    }
    compare = {"@type": f"{_HTTP}.rbac.v3.RBAC"}
    return [
        {"name": _VERIFIED, "disabled": True, "typed_config": verify},
        {"name": _COMPARED, "disabled": True, "typed_config": compare},
    ]


def with_token(route: Json) -> Json:
    """The route for devices that show a valid token of their own certificate: Mender gets what it wraps."""
    unwrapped = f"Bearer %DYNAMIC_METADATA({_VERIFIED}:{_CLAIMS}:{WRAPPED})%"
    return {
        **route,
        "request_headers_to_add": [
            *route.get("request_headers_to_add", []),
            {
                "header": {"key": "authorization", "value": unwrapped},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            },
        ],
        "typed_per_filter_config": {
            **route.get("typed_per_filter_config", {}),
            _VERIFIED: {"@type": f"{_HTTP}.jwt_authn.v3.PerRouteConfig", "requirement_name": _REQUIREMENT},
            _COMPARED: {"@type": f"{_HTTP}.rbac.v3.RBACPerRoute", "rbac": {"rules": _certificate_matches()}},
        },
    }


def without_token(route: Json) -> Json:
    """The route for what needs no token: none goes along."""
    return {**route, "request_headers_to_remove": [*route.get("request_headers_to_remove", []), "authorization"]}


def replies() -> list[Json]:
    """401 for both refusals, since clients authenticate anew on that status alone."""
    refused = RefusalReason.TOKEN_REFUSED, f"response.code_details.startsWith('{DENIED}')"
    mismatch = RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE, f"response.code_details == '{MISMATCH}'"
    return [_reply(reason, condition) for reason, condition in (refused, mismatch)]


def _reply(reason: RefusalReason, condition: str) -> Json:
    return {
        "filter": access_log.expression_filter(condition),
        "status_code": reason.value.status,
        "headers_to_add": [
            {
                # RFC 9110 section 11.6.1 wants it with each 401.
                "header": {"key": "www-authenticate", "value": "Bearer"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "body_format_override": access_log.error_body(reason.value.public),
    }


def _certificate_matches() -> Json:
    """Allow what has the claim; whatever cannot be evaluated is not allowed."""
    claim: Json = {"select_expr": {"operand": {"ident_expr": {"name": "metadata"}}, "field": "filter_metadata"}}
    for key in (_VERIFIED, _CLAIMS, *CONFIRMATION):
        claim = _call("_[_]", claim, {"const_expr": {"string_value": key}})
    certificate = {
        "select_expr": {"operand": {"ident_expr": {"name": "connection"}}, "field": "sha256_peer_certificate_digest"}
    }
    policy = {
        "permissions": [{"any": True}],
        "principals": [{"any": True}],
        "condition": _call("_==_", claim, certificate),
    }
    return {"action": "ALLOW", "policies": {_REQUIREMENT: policy}}


def _call(function: str, *arguments: Json) -> Json:
    return {"call_expr": {"function": function, "args": list(arguments)}}
