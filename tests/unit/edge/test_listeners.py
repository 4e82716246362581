"""`edge.listeners`: who may connect, what is taken from requests, and how errors look."""

from __future__ import annotations

from typing import Any

import pytest

from mtls_ambassador.edge.listeners import edge_listener, egress_listener
from mtls_ambassador.edge.plan import KEEPALIVE
from mtls_ambassador.refusals import RefusalReason
from mtls_ambassador.wire import ADDRESS_HEADER, CERTIFICATE_HEADER, FAILURE_HEADER
from tests.unit.edge.plans import CA, DIRECTORY, SERVER, VARIANTS, everything_in, plan

each_variant = pytest.mark.parametrize("variant", VARIANTS)


def tls(listener: dict[str, Any]) -> dict[str, Any]:
    (chain,) = listener["filter_chains"]
    found: dict[str, Any] = chain["transport_socket"]["typed_config"]
    return found


def http(listener: dict[str, Any]) -> dict[str, Any]:
    (chain,) = listener["filter_chains"]
    (network_filter,) = chain["filters"]
    found: dict[str, Any] = network_filter["typed_config"]
    return found


def http_filter(listener: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in http(listener)["http_filters"] if item["name"] == name]
    config: dict[str, Any] = found["typed_config"]
    return config


@each_variant
def test_no_client_gets_in_without_a_verified_certificate(variant: str) -> None:
    context = tls(edge_listener(plan(**VARIANTS[variant])))
    assert context["require_client_certificate"] is True
    assert context["common_tls_context"]["validation_context_sds_secret_config"]["name"] == "device-trust"
    flat = list(everything_in(context))
    assert "trust_chain_verification" not in flat
    assert "allow_expired_certificate" not in flat


@each_variant
def test_sessions_are_never_resumed(variant: str) -> None:
    context = tls(edge_listener(plan(**VARIANTS[variant])))
    assert context["disable_stateless_session_resumption"] is True
    assert context["disable_stateful_session_resumption"] is True
    assert "session_ticket_keys" not in context


@each_variant
def test_ed25519_and_p521_devices_can_sign(variant: str) -> None:
    parameters = tls(edge_listener(plan(**VARIANTS[variant])))["common_tls_context"]["tls_params"]
    assert {"ed25519", "ecdsa_secp521r1_sha512"} <= set(parameters["signature_algorithms"])
    assert not [name for name in parameters["signature_algorithms"] if "sha1" in name]
    assert {"X25519", "P-256", "P-384"} <= set(parameters["ecdh_curves"])


@pytest.mark.parametrize(("given", "lowest"), [("1.2", "TLSv1_2"), ("1.3", "TLSv1_3")])
def test_tls_versions(given: str, lowest: str) -> None:
    parameters = tls(edge_listener(plan(tls_min_version=given)))["common_tls_context"]["tls_params"]
    assert parameters["tls_minimum_protocol_version"] == lowest
    assert parameters["tls_maximum_protocol_version"] == "TLSv1_3"


def test_secrets_come_from_files_whose_directories_are_watched() -> None:
    common = tls(edge_listener(plan()))["common_tls_context"]
    (server,) = common["tls_certificate_sds_secret_configs"]
    for secret, folder in ((server, "server"), (common["validation_context_sds_secret_config"], "device-trust")):
        source = secret["sds_config"]["path_config_source"]
        assert source["path"] == f"{DIRECTORY}/work/{folder}/secret.json"
        assert source["watched_directory"]["path"] == f"{DIRECTORY}/work/{folder}"


@each_variant
def test_what_only_a_proxy_may_say_is_stripped_first(variant: str) -> None:
    manager = http(edge_listener(plan(**VARIANTS[variant])))
    (strip,) = manager["early_header_mutation_extensions"]
    mutations = strip["typed_config"]["mutations"]
    matchers = [item["remove_on_match"]["key_matcher"] for item in mutations if "remove_on_match" in item]
    assert all(matcher["ignore_case"] is True for matcher in matchers)
    prefixes = tuple(matcher["prefix"] for matcher in matchers)
    removed = {item["remove"] for item in mutations if "remove" in item}
    for header in (
        CERTIFICATE_HEADER,
        ADDRESS_HEADER,
        FAILURE_HEADER,
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-client-cert",
        "x-envoy-original-path",
        "x-envoy-upstream-rq-timeout-ms",
        "x-men-rbac-inventory-groups",
        "forwarded",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "true-client-ip",
    ):
        assert header in removed or header.startswith(prefixes), header
    for header in ("authorization", "x-men-signature", "x-men-requestid", "content-type", "upgrade", "range"):
        assert header not in removed
        assert not header.startswith(prefixes)
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "DROP_HEADER"
    assert manager["forward_client_cert_details"] == "SANITIZE"


@each_variant
def test_paths_are_normalised_before_they_are_matched(variant: str) -> None:
    manager = http(edge_listener(plan(**VARIANTS[variant])))
    assert manager["normalize_path"] is True
    assert manager["merge_slashes"] is True
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"


def test_certificates_that_are_no_devices_are_refused_before_anything_else() -> None:
    listener = edge_listener(plan(former=frozenset({"ab" * 32})))
    names = [item["name"] for item in http(listener)["http_filters"]]
    assert names == ["peer", "not-devices", "envoy.filters.http.buffer", "envoy.filters.http.router"]
    names = [item["name"] for item in http(edge_listener(plan(**VARIANTS["several_anchors"])))["http_filters"]]
    assert names == [
        "peer", "not-devices", "envoy.filters.http.buffer", "presented-chain", "envoy.filters.http.router",
    ]  # fmt: skip
    matcher = http_filter(listener, "not-devices")["matcher"]
    refused = matcher["matcher_tree"]["exact_match_map"]["map"]
    assert set(refused) >= {SERVER.fingerprint, CA.fingerprint, "ab" * 32}
    assert {entry["action"]["typed_config"]["action"] for entry in refused.values()} == {"DENY"}
    assert refused[SERVER.fingerprint]["action"]["name"] == RefusalReason.SERVER_CERTIFICATE.label
    assert refused[CA.fingerprint]["action"]["name"] == RefusalReason.CA_CERTIFICATE.label
    assert matcher["on_no_match"]["action"]["typed_config"]["action"] == "ALLOW"
    (remembered,) = http_filter(listener, "peer")["on_request_headers"]
    key = matcher["matcher_tree"]["input"]["typed_config"]["key"]
    assert remembered["object_key"] == key
    assert "FINGERPRINT_256" in str(remembered["format_string"])


def test_the_body_of_other_requests_is_not_buffered() -> None:
    (found,) = [item for item in http(edge_listener(plan()))["http_filters"] if item["name"].endswith("buffer")]
    assert found["disabled"] is True


def test_slow_and_idle_clients_are_let_go() -> None:
    listener = edge_listener(plan(handshake_timeout="90s"))
    (chain,) = listener["filter_chains"]
    assert chain["transport_socket_connect_timeout"] == "90s"
    assert listener["tcp_keepalive"] == KEEPALIVE
    manager = http(listener)
    for name in ("request_headers_timeout", "stream_idle_timeout"):
        assert float(manager[name].removesuffix("s")) > 0
    # A certificate is looked at when a connection is made, so none lives for ever.
    assert manager["common_http_protocol_options"]["max_connection_duration"] == "86400s"
    # The Go client polls every half hour on one connection.
    assert float(manager["common_http_protocol_options"]["idle_timeout"].removesuffix("s")) > 1800


@pytest.mark.parametrize(("given", "text"), [("0.5", "0.5s"), ("60", "60s"), ("1h", "3600s"), ("100ms", "0.1s")])
def test_durations_are_as_envoy_takes_them(given: str, text: str) -> None:
    (chain,) = edge_listener(plan(handshake_timeout=given))["filter_chains"]
    assert chain["transport_socket_connect_timeout"] == text


def test_both_families_on_one_socket() -> None:
    assert edge_listener(plan(listen="8080"))["address"]["socket_address"] == {
        "address": "::",
        "port_value": 8080,
        "ipv4_compat": True,
    }
    assert edge_listener(plan(listen="127.0.0.1:1"))["address"]["socket_address"] == {
        "address": "127.0.0.1",
        "port_value": 1,
    }


def replies(**given: Any) -> list[tuple[str, dict[str, Any]]]:
    """What Envoy answers itself: when, and the body; the first that fits counts."""
    found = []
    for mapper in http(edge_listener(plan(**given)))["local_reply_config"]["mappers"]:
        when = mapper["filter"]
        if "status_code_filter" in when:
            comparison = when["status_code_filter"]["comparison"]
            text = f"{comparison['op']} {comparison['value']['default_value']}"
        else:
            text = when["extension_filter"]["typed_config"]["expression"]
        found.append((text, mapper["body_format_override"]))
    return found


def test_envoys_own_errors_are_json_and_tell_nothing() -> None:
    for _, body in replies():
        assert body["content_type"].startswith("application/json")
        assert set(body["json_format"]) == {"error", "request_id"}
        assert "%" not in body["json_format"]["error"]
        assert "envoy" not in body["json_format"]["error"].lower()
    conditions = [condition for condition, _ in replies()]
    assert len(set(conditions)) == len(conditions)
    assert conditions[-1] == "GE 400"  # whatever else there is


@pytest.mark.parametrize(
    ("reason", "condition"),
    [
        (RefusalReason.SERVER_CERTIFICATE, "response.code_details.startsWith('rbac_access_denied')"),
        (RefusalReason.CA_CERTIFICATE, "response.code_details.startsWith('rbac_access_denied')"),
        (RefusalReason.PATH_NOT_ALLOWED, "EQ 404"),
        (RefusalReason.BODY_TOO_LARGE, "EQ 413"),
        (RefusalReason.TOKEN_REFUSED, "response.code_details.startsWith('jwt_authn_access_denied')"),
        (
            RefusalReason.TOKEN_OF_ANOTHER_CERTIFICATE,
            "response.code_details == 'rbac_access_denied_matched_policy[none]'",
        ),
    ],
)
def test_devices_hear_the_public_text_of_the_reason(reason: RefusalReason, condition: str) -> None:
    assert dict(replies(bind_tokens=True))[condition]["json_format"]["error"] == reason.value.public


def test_every_reason_of_a_request_is_answered_in_its_words() -> None:
    said = {body["json_format"]["error"] for _, body in replies(bind_tokens=True)}
    assert {reason.value.public for reason in RefusalReason if reason.value.stage == "request"} <= said


def test_the_egress_door_is_exempt_from_the_limits_for_devices() -> None:
    listener = egress_listener(plan())
    assert listener["ignore_global_conn_limit"] is True
    assert "traffic_direction" not in listener  # draining closes inbound listeners only
    assert edge_listener(plan())["traffic_direction"] == "INBOUND"


def test_the_egress_door_marks_its_own_failures() -> None:
    (mapper,) = http(egress_listener(plan()))["local_reply_config"]["mappers"]
    (added,) = mapper["headers_to_add"]
    assert added["header"]["key"] == FAILURE_HEADER
    assert added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"


@each_variant
def test_the_fingerprint_and_certificate_go_to_no_upstream_by_default(variant: str) -> None:
    manager = http(edge_listener(plan(**VARIANTS[variant])))
    assert "set_current_client_cert_details" not in manager
