"""The search for secrets in every test's log finds what it should; and a run with everything on has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.lab.transport import RefusedError
from tests.secrets_in_logs import assert_no_secrets, credentials_sent, private_keys_in
from tests.world import world

_JWT = "eyJhbGciOiJSUzI1NiJ9AAAA.eyJzdWIiOiJ4In0AAAA.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "line",
    [
        f"token={_JWT}",
        "authorization: Bearer abcdefgh12345678",
        "Authorization: Basic bXRsc0BtZW5kZXIuaW86c2VjcmV0",
        "-----BEGIN EC PRIVATE KEY-----",
        "password=hunter22",
    ],
)
def test_the_search_finds_secrets(line: str) -> None:
    with pytest.raises(AssertionError):
        assert_no_secrets(f"harmless\n{line}\n", {"hunter22"})


def test_credentials_are_found_in_traffic() -> None:
    traffic = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc.def.ghi\r\n\r\n"
    assert credentials_sent(traffic) == {"abc.def.ghi"}


async def test_a_run_with_everything_on_logs_no_secret(tmp_path: Path) -> None:
    """Admission, refusals, a failed login and a relogin, at debug level; `world` itself searches the log again."""
    async with world(tmp_path, access_log="all", debug_log=True) as w:
        async with w.device(tenant_token="tenant-token-0123456789") as device:
            token = await device.authenticate()
            await device.send_inventory()
            w.lab.change_password("another-password-123")
            w.lab.revoke_user_sessions()
            async with w.device() as newcomer:
                with pytest.raises(RefusedError, match="503"):
                    await newcomer.authenticate()
        secrets = credentials_sent(bytes(w.relay.seen))
        assert token in secrets
        assert len(secrets) >= 4  # basic credentials, a management session, the device's token, the tenant token
        assert len(private_keys_in(tmp_path)) >= 3
        assert_no_secrets(w.log_text(), secrets | {"another-password-123", "tenant-token-0123456789"})
        assert "does not accept mender_user" in w.log_text()
