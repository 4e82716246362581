"""CAs of one subject that Envoy cannot tell apart would lock half the devices out: they are refused at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.config.errors import ConfigurationError
from tests.certificates import CertificateAuthority
from tests.raw_device import RawDevice
from tests.world import eventually, world

PLAIN = {"key_identifiers": False}


@pytest.mark.parametrize(
    ("first_identified", "second_identified"), [(False, False), (True, False), (False, True)], ids=str
)
async def test_envoy_refuses_devices_of_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_identified: bool, second_identified: bool
) -> None:
    """Why we refuse them: with our own judgement taken away, Envoy takes the first CA of the subject for either."""
    first = CertificateAuthority("My CA", key_identifiers=first_identified)
    second = CertificateAuthority("My CA", key_identifiers=second_identified)
    bundle = first.pem + second.pem
    with pytest.raises(ConfigurationError, match="two CAs of the subject CN=My CA with different keys"):
        async with world(tmp_path / "refused", ca=first, bundle=bundle):
            pytest.fail("it started")

    monkeypatch.setattr("mtls_ambassador.config.material.judge_bundle", lambda *_: [])
    async with world(tmp_path / "misjudged", ca=first, bundle=bundle) as w:
        outcomes = []
        for ca, identified in ((first, first_identified), (second, second_identified)):
            device = RawDevice(w, holder=ca.device("dev-1", key_identifiers=identified))
            try:
                outcomes.append((await device.authenticate()).status)
            except OSError:
                outcomes.append(0)
        assert sorted(outcomes) == [0, 200]
        await eventually(lambda: w.log_lines("reason=bad_certificate_signature"))
