"""Below `storage_paths` devices may read what Mender's host serves there, and do nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.world import world


async def test_artifacts_are_read_from_storage_paths(tmp_path: Path) -> None:
    async with world(tmp_path, storage_paths="/artifacts/") as w:
        context = w.client_context(w.ca.device("dev-1"))
        # The lab server has nothing there, so its own 404 tells that the request came through.
        for method in ("GET", "HEAD"):
            await w.request(context, method, "/artifacts/1/a.mender?X-Amz-Signature=1", "Range: bytes=5-\r\n")
        assert w.relay.device_requests() == [
            (method, "/artifacts/1/a.mender?X-Amz-Signature=1") for method in ("GET", "HEAD")
        ]
        (seen, _) = w.relay.headers_of("/artifacts/1/a.mender?X-Amz-Signature=1")
        assert seen["range"] == ["bytes=5-"]
        assert seen["host"] == [f"127.0.0.1:{w.relay.port}"]

        before = w.relay.device_requests()
        for method, target in (
            ("POST", "/artifacts/1"),
            ("PUT", "/artifacts/1"),
            ("DELETE", "/artifacts/1"),
            ("GET", "/artifacts"),
            ("GET", "/artifacts-of-others/1"),
            ("GET", "/artifacts/../api/management/v1/useradm/users"),
            ("GET", "/artifacts/%2e%2e/api/management/v1/useradm/users"),
            ("GET", "/artifacts/..;/api/management/v1/useradm/users"),
            ("GET", "/artifacts/%252e%252e/api/management/v1/useradm/users"),
        ):
            status, _ = await w.request(context, method, target)
            assert status in (400, 404), (method, target)
        assert w.relay.device_requests() == before
