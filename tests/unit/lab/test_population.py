"""Who is in a fleet."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.auth_request import public_pem
from mtls_ambassador.lab.credentials import CredentialsError
from mtls_ambassador.lab.population import Population
from mtls_ambassador.lab.transport import Style
from mtls_ambassador.pki import authority
from mtls_ambassador.pki.signer import SignerError

URL = "https://edge.example"


def test_every_device_is_somebody_else_in_every_run(tmp_path: Path) -> None:
    authority.init(tmp_path, "CA")
    runs = [Population(URL, style=Style.CPP).issued_by(tmp_path) for _ in range(4)]
    devices = [make(number) for make in runs for number in range(3)]
    identities = [str(device.identity["mac"]) for device in devices]
    assert len({identity[:8] for identity in identities}) > 1
    assert [identity[9:] for identity in identities[:3]] == ["00:00:00", "00:00:01", "00:00:02"]
    assert all(identity.startswith("02:") and len(identity) == 17 for identity in identities)
    keys = set()
    for device in devices[:3]:
        assert device.credentials is not None
        assert device.style is Style.CPP
        keys.add(public_pem(device.credentials().key.public_key()))
    assert len(keys) == 3


def test_a_fleet_is_not_larger_than_its_numbers(tmp_path: Path) -> None:
    authority.init(tmp_path, "CA")
    make = Population(URL).issued_by(tmp_path)
    make((1 << 24) - 1)
    with pytest.raises(Error, match="at most 16777216"):
        make(1 << 24)


def test_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SignerError):
        Population(URL).issued_by(tmp_path)
    authority.init(tmp_path, "CA")
    with pytest.raises(CredentialsError, match="cannot read"):
        Population(URL, ca_file=tmp_path / "absent.pem").issued_by(tmp_path)


def test_one_device_has_its_own_files(tmp_path: Path) -> None:
    authority.init(tmp_path, "CA")
    issued = authority.issue_device(tmp_path, "device")
    make = Population(URL, tenant_token="TT").of_files(issued.certificate_path, issued.key_path, {"mac": "m"})
    device = make(0)
    assert (device.certificate, device.key, device.identity) == (issued.certificate_path, issued.key_path, {"mac": "m"})
    assert device.credentials is None
    assert "TT" not in repr(Population(URL, tenant_token="TT"))
