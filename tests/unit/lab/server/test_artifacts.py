"""Artifacts: uploaded as mender-cli does it, listed, linked, downloaded in parts, deleted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.unit.lab.server.artifact import artifact
from tests.unit.lab.server.conftest import Clock, Start
from tests.unit.lab.server.peer import ARTIFACTS, Answer, Peer, multipart

MISSING = str(uuid.uuid4())


async def test_upload(peer: Peer, clock: Clock) -> None:
    content = artifact(metadata=b'{"a": "b"}')
    found = await peer.upload(content, description="a test")
    (uploaded,) = peer.lab.artifacts()
    assert (found.status, found.body) == (201, b"")
    assert found.headers["location"] == f"{ARTIFACTS}/{uploaded.id}"
    assert (uploaded.name, uploaded.device_types, uploaded.size) == ("release-2", ("lab",), len(content))
    shown = (await peer.call("GET", found.headers["location"])).json
    assert shown["id"] == uploaded.id
    assert shown["description"] == "a test"
    assert shown["modified"] == "2027-01-15T08:00:00.250Z"
    assert shown["info"] == {"format": "mender", "version": 3}
    assert shown["signed"] is False
    assert shown["artifact_depends"] == {"device_type": ["lab"]}
    (update,) = shown["updates"]
    assert update["meta_data"] == [{"Key": "a", "Value": "b"}]
    assert update["metadata"] == {"a": "b"}
    assert update["files"][0]["name"] == "payload.bin"


async def test_upload_may_come_in_any_pieces(peer: Peer) -> None:
    boundary, body = multipart(artifact())

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    found = await peer.call("POST", ARTIFACTS, pieces(), Content_Type=f"multipart/form-data; boundary={boundary}")
    assert found.status == 201
    assert peer.lab.artifacts()[0].size == len(artifact())


async def test_upload_may_name_its_id(peer: Peer) -> None:
    assert (await peer.upload(artifact(), artifact_id=MISSING)).status == 201
    assert peer.lab.artifacts()[0].id == MISSING
    found = await peer.upload(artifact("other"), artifact_id=MISSING)
    assert (found.status, found.error) == (409, "Artifact with given ID already exists")
    assert (await peer.upload(artifact("other"), artifact_id="1")).status == 400


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (artifact(), 409),
        (artifact(types=("other", "lab")), 409),
        (artifact(types=("other",)), 201),
        (artifact("release-3"), 201),
        (artifact(depends={"rootfs-image.checksum": "1"}), 201),
    ],
)
async def test_artifacts_of_a_name_are_for_different_devices(peer: Peer, second: bytes, status: int) -> None:
    assert (await peer.upload(artifact())).status == 201
    found = await peer.upload(second)
    assert found.status == status
    if status == 409:
        assert found.error == "An artifact with the same name has conflicting dependencies"
        assert found.json["metadata"]["conflict"] == {"artifact_name": "release-2", "device_type": ["lab"]}
    assert len(peer.lab.artifacts()) == (1 if status == 409 else 2)


BOUNDARY, BODY = multipart(artifact())


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("application/json", b"{}", "isn't multipart/form-data"),
        ("multipart/form-data", BODY, "no multipart boundary"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"", "unexpected EOF"),
        (f"multipart/form-data; boundary={BOUNDARY}", b"no part", "multipart:"),
        (f"multipart/form-data; boundary={BOUNDARY}", BODY[:-100], "unexpected EOF"),
        (f"multipart/form-data; boundary={BOUNDARY}", BODY[-len(BOUNDARY) - 6 :], "does not contain the artifact"),
        (
            "multipart/form-data; boundary=b",
            multipart(artifact(), {"size": 9}, boundary="b")[1],
            "longer than its size",
        ),
        ("multipart/form-data; boundary=b", multipart(artifact(), {"size": 10**9}, boundary="b")[1], "unexpected EOF"),
        ("multipart/form-data; boundary=b", multipart(artifact(), {"size": "x"}, boundary="b")[1], "invalid syntax"),
        ("multipart/form-data; boundary=b", multipart(b"no artifact", boundary="b")[1], "reading artifact error"),
        (
            "multipart/form-data; boundary=b",
            multipart(artifact(), {"description": "x" * 5000}, boundary="b")[1],
            "Metadata",
        ),
    ],
)
async def test_bad_uploads_leave_nothing(peer: Peer, kind: str, body: bytes, said: str) -> None:
    found = await peer.call("POST", ARTIFACTS, body, Content_Type=kind)
    assert found.status == 400
    assert said in found.error
    assert peer.lab.artifacts() == []
    assert _files(peer) == []


async def test_upload_that_breaks_off_leaves_nothing(peer: Peer) -> None:
    boundary, body = multipart(artifact())
    arrived = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:500]
        await arrived.wait()
        raise ConnectionError("the operator has gone")

    kind = f"multipart/form-data; boundary={boundary}"
    call = asyncio.create_task(peer.call("POST", ARTIFACTS, pieces(), Content_Type=kind))
    async with asyncio.timeout(5):
        while not _files(peer):  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.005)
        arrived.set()
        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            await call
        while _files(peer):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert peer.lab.artifacts() == []


async def test_lists(peer: Peer) -> None:
    for name, types in (("a", ("lab",)), ("b", ("lab", "qemu")), ("c", ("qemu",))):
        await peer.upload(artifact(name, types=types), description=f"the {name}")

    async def names(query: str) -> list[str]:
        return [item["name"] for item in (await peer.call("GET", f"{ARTIFACTS}{query}")).json]

    assert await names("") == ["a", "b", "c"]
    assert await names("?name=b") == ["b"]
    assert await names("?device_type=qemu") == ["b", "c"]
    assert await names("?description=THE%20C") == ["c"]
    assert await names("/list?per_page=2") == ["a", "b"]
    found = await peer.call("GET", f"{ARTIFACTS}/list?per_page=2&page=2")
    assert [item["name"] for item in found.json] == ["c"]
    assert found.headers["x-total-count"] == "3"
    assert any('rel="prev"' in link for link in found.links)


@pytest.mark.parametrize("tail", ["", "/download"])
async def test_what_is_not_there(peer: Peer, tail: str) -> None:
    assert (await peer.call("GET", f"{ARTIFACTS}/{MISSING}{tail}")).status == 404
    assert (await peer.call("GET", f"{ARTIFACTS}/1{tail}")).status == 400
    if not tail:
        assert (await peer.call("DELETE", f"{ARTIFACTS}/{MISSING}")).status == 404


async def test_delete(peer: Peer) -> None:
    await peer.upload(artifact())
    (uploaded,) = peer.lab.artifacts()
    deployment_id = peer.lab.create_deployment("first", "release-2", ["device"])
    path = f"{ARTIFACTS}/{uploaded.id}"
    assert (await peer.call("DELETE", path)).error == "Artifact is used in active deployment"
    peer.lab.abort(deployment_id)
    assert (await peer.call("DELETE", path)).status == 204
    assert peer.lab.artifacts() == []
    assert _files(peer) == []


class TestDownload:
    async def test_whole(self, peer: Peer) -> None:
        found = await _get(peer, await _link(peer))
        assert (found.status, found.body) == (200, artifact())
        assert found.headers["content-length"] == str(len(artifact()))
        assert found.headers["accept-ranges"] == "bytes"
        assert found.headers["content-disposition"] == 'attachment; filename="release-2.mender"'
        assert "transfer-encoding" not in found.headers

    @pytest.mark.parametrize(("asked", "begin", "end"), [("100-", 100, None), ("5-9", 5, 10), ("-7", -7, None)])
    async def test_range(self, peer: Peer, asked: str, begin: int, end: int | None) -> None:
        content = artifact()
        found = await _get(peer, await _link(peer), Range=f"bytes={asked}")
        assert (found.status, found.body) == (206, content[begin:end])
        first = begin if begin >= 0 else len(content) + begin
        last = len(content) - 1 if end is None else end - 1
        assert found.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
        assert found.headers["content-length"] == str(last - first + 1)

    async def test_range_beyond_the_end(self, peer: Peer) -> None:
        found = await _get(peer, await _link(peer), Range=f"bytes={len(artifact())}-")
        assert (found.status, found.headers["content-range"]) == (416, f"bytes */{len(artifact())}")

    async def test_link_expires(self, peer: Peer, clock: Clock) -> None:
        link = await _link(peer)
        clock.now += 901
        found = await _get(peer, link)
        assert (found.status, found.error) == (403, "URL expired")

    async def test_link_is_for_one_artifact(self, peer: Peer) -> None:
        link = await _link(peer)
        await peer.upload(artifact("other"))
        one, other = peer.lab.artifacts()
        assert (await _get(peer, link.replace(one.id, other.id))).status == 403
        assert (await _get(peer, link.partition("?")[0])).status == 400

    async def test_link_to_what_was_deleted(self, peer: Peer) -> None:
        link = await _link(peer)
        await peer.call("DELETE", f"{ARTIFACTS}/{peer.lab.artifacts()[0].id}")
        assert (await _get(peer, link)).status == 404

    async def test_host_is_the_one_that_the_peer_used(self, peer: Peer) -> None:
        await peer.upload(artifact())
        path = f"{ARTIFACTS}/{peer.lab.artifacts()[0].id}/download"
        own = (await peer.call("GET", path)).json["uri"]
        assert own.startswith(f"{peer.lab.url}/api/devices/v1/deployments/download/")
        forwarded = await peer.call("GET", path, X_Forwarded_Host="edge:8443", X_Forwarded_Proto="https")
        assert forwarded.json["uri"].startswith("https://edge:8443/api/devices/v1/deployments/download/")


class TestFiles:
    async def test_temporary_ones_end_with_the_server(self, start: Start) -> None:
        async with start() as peer:
            await peer.upload(artifact())
            directory = peer.lab._artifact_directory
            assert directory.stat().st_mode & 0o777 == 0o700
            assert len(_files(peer)) == 1
        assert not directory.exists()

    async def test_others_stay_beside_the_database(self, start: Start, tmp_path: Path) -> None:
        async with start(db=tmp_path / "lab.db") as peer:
            link = await _link(peer)
            (tmp_path / "lab.db.artifacts" / "upload-left").write_bytes(b"half")
        async with start(db=tmp_path / "lab.db") as peer:
            assert (await _get(peer, link)).body == artifact()
            assert _files(peer) == [peer.lab.artifacts()[0].id]
        assert (tmp_path / "lab.db.artifacts").stat().st_mode & 0o777 == 0o700


async def _link(peer: Peer) -> str:
    """Path and query of a download link, of an artifact uploaded for that."""
    assert (await peer.upload(artifact())).status == 201
    path = f"{ARTIFACTS}/{peer.lab.artifacts()[0].id}/download"
    parts = urlsplit((await peer.call("GET", path)).json["uri"])
    return f"{parts.path}?{parts.query}"


async def _get(peer: Peer, link: str, **headers: str) -> Answer:
    return await peer.call("GET", link, token="", **headers)


def _files(peer: Peer) -> list[str]:
    return [path.name for path in peer.lab._artifact_directory.iterdir()]
