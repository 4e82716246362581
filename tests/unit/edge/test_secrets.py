"""`edge.secrets`: certificates inline, as they were judged; the private key only by name."""

from __future__ import annotations

from mtls_ambassador.edge.secrets import DEVICE_TRUST, render_device_trust, render_server_secret
from mtls_ambassador.edge.secrets import SERVER as SERVER_SECRET
from tests.unit.edge.plans import CA, DIRECTORY, LINE, SERVER, assert_golden, plan


def test_secrets_are_golden() -> None:
    assert_golden("server_secret", render_server_secret(plan()))
    assert_golden("device_trust", render_device_trust(plan()))


def test_the_private_key_is_named_not_copied() -> None:
    (secret,) = render_server_secret(plan())["resources"]
    assert secret["name"] == SERVER_SECRET
    assert secret["tls_certificate"]["private_key"] == {"filename": str(DIRECTORY / "server.key")}
    assert secret["tls_certificate"]["certificate_chain"]["inline_string"].encode() == SERVER.pem + LINE.pem


def test_the_trust_bundle_is_what_was_judged() -> None:
    (secret,) = render_device_trust(plan())["resources"]
    assert secret["name"] == DEVICE_TRUST
    assert secret["validation_context"] == {"trusted_ca": {"inline_string": CA.pem.decode()}}
