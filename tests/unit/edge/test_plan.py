"""`edge.plan`: settings, certificates and the machine, brought together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.edge.plan import WorkPaths
from mtls_ambassador.refusals import RefusalReason
from tests.unit.edge.plans import CA, DIRECTORY, LINE, SERVER, SYSTEM_TRUST, plan


@pytest.mark.parametrize(
    ("listen", "ipv6", "host", "both"),
    [
        ("8080", True, "::", True),
        ("8080", False, "0.0.0.0", False),
        ("0.0.0.0:8080", True, "0.0.0.0", False),
        ("[::]:8080", True, "::", True),
        ("[::1]:8080", True, "::1", False),
        ("127.0.0.1:8080", False, "127.0.0.1", False),
    ],
)
def test_where_it_listens(listen: str, ipv6: bool, host: str, both: bool) -> None:
    found = plan(listen=listen, ipv6=ipv6)
    assert (found.listen_host, found.listen_port, found.both_families) == (host, 8080, both)


def test_whose_certificates_are_no_devices() -> None:
    former = "ab" * 32
    assert plan(former=frozenset({former, SERVER.fingerprint})).not_devices == {
        former: RefusalReason.SERVER_CERTIFICATE,
        SERVER.fingerprint: RefusalReason.SERVER_CERTIFICATE,
        CA.fingerprint: RefusalReason.CA_CERTIFICATE,
        LINE.fingerprint: RefusalReason.CA_CERTIFICATE,
    }


def test_a_ca_that_once_served_is_a_ca() -> None:
    found = plan(former=frozenset({CA.fingerprint}))
    assert found.not_devices[CA.fingerprint] is RefusalReason.CA_CERTIFICATE


def test_paths_are_absolute_since_envoy_may_run_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = plan(server_key="keys/server.key", mender_ca="mender.pem")
    assert found.server_key == tmp_path / "keys" / "server.key"
    assert found.upstream_trust == tmp_path / "mender.pem"


def test_what_verifies_the_upstream() -> None:
    assert plan().upstream_trust == SYSTEM_TRUST
    assert plan(insecure_skip_verify=True).upstream_trust is None
    assert plan(mender_backend="http://mender").upstream_trust is None


def test_settings_are_passed_on() -> None:
    found = plan(tls_min_version="1.3", handshake_timeout="5s", allowed_paths="/api/devices/v1/", access_log="all")
    assert found.tls_min_version == "1.3"
    assert found.handshake_timeout == 5
    assert found.allowed_paths == ("/api/devices/v1/",)
    assert found.access_log == "all"
    assert str(found.backend) == "https://hosted.mender.io"
    assert found.server_chain_pem.encode() == SERVER.chain_pem
    assert found.device_ca_pem.encode() == CA.pem
    assert found.server_names == ("edge.example.com", "*.edge.example.com", "192.0.2.1", "2001:db8::1")


def test_work_paths_lie_in_the_work_directory() -> None:
    paths = WorkPaths(DIRECTORY)
    found = [paths.bootstrap, paths.server_secret, paths.device_trust, paths.envoy_admin, paths.egress, paths.admission]
    assert len(set(found)) == 6
    assert all(path.is_relative_to(DIRECTORY) for path in found)
    # Envoy watches directories: each secret alone in its own.
    assert paths.server_secret.parent not in (DIRECTORY, paths.device_trust.parent)
