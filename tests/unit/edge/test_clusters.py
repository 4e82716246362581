"""`edge.clusters`: the one door to Mender is verified by name or address, unless the user said otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from mtls_ambassador.edge.clusters import admission_cluster, mender_cluster
from mtls_ambassador.edge.plan import KEEPALIVE
from tests.unit.edge.plans import DIRECTORY, SYSTEM_TRUST, VARIANTS, plan


def tls(**given: Any) -> dict[str, Any]:
    found: dict[str, Any] = mender_cluster(plan(**given))["transport_socket"]["typed_config"]
    return found


def test_plain_http_has_no_tls() -> None:
    cluster = mender_cluster(plan(**VARIANTS["http_backend"]))
    assert "transport_socket" not in cluster


def test_tcp_finds_a_mender_that_went_without_a_word() -> None:
    assert mender_cluster(plan())["upstream_connection_options"] == {"tcp_keepalive": KEEPALIVE}


def test_a_name_is_sent_and_verified() -> None:
    context = tls(mender_backend="https://hosted.mender.io")
    assert context["auto_host_sni"] is True
    assert context["auto_sni_san_validation"] is True
    assert context["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": str(SYSTEM_TRUST)}}


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00::5"])
def test_an_address_is_verified_but_not_sent(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    context = tls(mender_backend=f"https://{host}", mender_ca=str(DIRECTORY / "mender-ca.pem"))
    assert "auto_host_sni" not in context
    assert "sni" not in context
    assert context["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": str(DIRECTORY / "mender-ca.pem")},
        "match_typed_subject_alt_names": [{"san_type": "IP_ADDRESS", "matcher": {"exact": address}}],
    }


@pytest.mark.parametrize("backend", ["https://mender.example.com", "https://10.0.0.5"])
def test_insecure_verifies_nothing(backend: str) -> None:
    context = tls(mender_backend=backend, insecure_skip_verify=True)
    assert "validation_context" not in context["common_tls_context"]
    assert not context.get("auto_sni_san_validation")


@pytest.mark.parametrize("variant", ["https_hosted", "https_address_with_own_ca"])
def test_trusting_a_ca_is_never_trusting_any_name_of_it(variant: str) -> None:
    context = tls(**VARIANTS[variant])
    by_address = context["common_tls_context"]["validation_context"].get("match_typed_subject_alt_names")
    assert context.get("auto_sni_san_validation") or by_address


def test_tls_1_3_is_offered() -> None:
    assert tls()["common_tls_context"]["tls_params"]["tls_maximum_protocol_version"] == "TLSv1_3"


def test_names_are_looked_up_and_addresses_are_not() -> None:
    by_name = mender_cluster(plan(mender_backend="https://hosted.mender.io"))
    assert by_name["cluster_type"]["name"] == "envoy.cluster.dns"
    assert "type" not in by_name
    by_address = mender_cluster(plan(mender_backend="https://10.0.0.5"))
    assert by_address["type"] == "STATIC"
    assert "cluster_type" not in by_address


def test_a_silent_resolver_keeps_no_listener_closed() -> None:
    assert mender_cluster(plan())["wait_for_warm_on_init"] is False


def test_as_many_requests_as_devices_fit() -> None:
    (limits,) = mender_cluster(plan())["circuit_breakers"]["thresholds"]
    assert limits["max_connections"] == limits["max_requests"] == limits["max_pending_requests"] == 10_000


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_upstream_speaks_http_1_so_that_upgrades_pass(variant: str) -> None:
    for cluster in (mender_cluster(plan(**VARIANTS[variant])), admission_cluster(plan(**VARIANTS[variant]))):
        (options,) = cluster["typed_extension_protocol_options"].values()
        assert options["explicit_http_config"] == {"http_protocol_options": {}}


def test_the_admission_service_is_a_socket_of_the_work_directory() -> None:
    (endpoints,) = admission_cluster(plan())["load_assignment"]["endpoints"]
    (endpoint,) = endpoints["lb_endpoints"]
    assert endpoint["endpoint"]["address"] == {"pipe": {"path": f"{DIRECTORY}/work/admission.sock"}}


def test_auth_requests_beyond_those_under_way_wait_in_envoy() -> None:
    (limits,) = admission_cluster(plan())["circuit_breakers"]["thresholds"]
    assert limits == {"max_connections": 2_000, "max_pending_requests": 4096, "max_requests": 4096}
