"""What devices report, and how it is found again."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.unit.lab.server.conftest import Clock
from tests.unit.lab.server.peer import ATTRIBUTES, Peer

DEVICES = "/api/management/v1/inventory/devices"
SEARCH = "/api/management/v2/inventory/filters/search"


def attribute(name: str, value: object, **more: object) -> dict[str, object]:
    return {"name": name, "value": value, **more}


@pytest.fixture
async def token(peer: Peer) -> str:
    return await peer.accepted({"serial": "1"})


def reported(peer: Peer) -> dict[str, object]:
    return dict(peer.lab.devices()[0].inventory)


class TestReport:
    async def test_with_put_replaces_and_with_patch_adds(self, peer: Peer, token: str) -> None:
        for method, body, expected in (
            ("PUT", [attribute("a", "1"), attribute("b", ["x", "y"])], {"a": "1", "b": ["x", "y"]}),
            ("PATCH", [attribute("a", 2), attribute("c", [1, 2.5])], {"a": 2, "b": ["x", "y"], "c": [1, 2.5]}),
            ("PATCH", [], {"a": 2, "b": ["x", "y"], "c": [1, 2.5]}),
            ("PUT", [attribute("d", [], description="none")], {"d": []}),
            ("PUT", [], {}),
        ):
            found = await peer.call(method, ATTRIBUTES, body, token=token)
            assert (found.status, found.body) == (200, b"")
            assert reported(peer) == expected

    async def test_is_always_of_scope_inventory(self, peer: Peer, token: str) -> None:
        await peer.call("PUT", ATTRIBUTES, [attribute("status", "accepted!", scope="identity")], token=token)
        (device,) = (await peer.call("GET", DEVICES)).json
        found = {(item["scope"], item["name"]): item["value"] for item in device["attributes"]}
        assert found["inventory", "status"] == "accepted!"
        assert found["identity", "status"] == "accepted"

    async def test_may_go_to_any_path_of_inventory(self, peer: Peer, token: str) -> None:
        path = "/api/devices/v1/inventory/any/other"
        assert (await peer.call("PUT", path, [attribute("a", "1")], token=token)).status == 200
        assert reported(peer) == {"a": "1"}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"x",
            {},
            "x",
            [1],
            [attribute("x" * 1025, "x")],
            [attribute("", True)],
            [{"name": "x"}],
            [attribute("x", None)],
            [attribute("x", True)],
            [attribute("x", {})],
            [attribute("x", ["a", 1])],
            [attribute("x", [True])],
            [attribute("x", [["a"]])],
            [attribute("x", "y", description=1)],
            [attribute(str(number), "x") for number in range(101)],
        ],
    )
    async def test_of_a_wrong_form_is_refused(self, peer: Peer, token: str, body: object) -> None:
        found = await peer.call("PUT", ATTRIBUTES, body, token=token)
        assert found.status == 400
        assert found.error
        assert reported(peer) == {}

    @pytest.mark.parametrize(
        "body", [[attribute("", "x")], [{"value": "x"}], [attribute("a", "x"), attribute("", "x")]]
    )
    async def test_an_empty_name_fails_in_the_store(self, peer: Peer, token: str, body: object) -> None:
        found = await peer.call("PUT", ATTRIBUTES, body, token=token)
        assert (found.status, found.error) == (500, "internal error")
        assert reported(peer) == {}

    async def test_has_at_most_a_hundred_attributes(self, peer: Peer, token: str) -> None:
        hundred: list[Any] = [attribute(str(number), "x") for number in range(100)]
        assert (await peer.call("PUT", ATTRIBUTES, hundred, token=token)).status == 200
        assert (await peer.call("PATCH", ATTRIBUTES, [attribute("0", "y")], token=token)).status == 200
        assert (await peer.call("PATCH", ATTRIBUTES, [attribute("100", "y")], token=token)).status == 400

    async def test_over_the_limit_is_refused(self, peer: Peer, token: str) -> None:
        assert (await peer.call("PUT", ATTRIBUTES, io.BytesIO(b"[" + b" " * (1 << 20)), token=token)).status == 413

    async def test_of_another_content_type_is_refused(self, peer: Peer, token: str) -> None:
        assert (await peer.call("PUT", ATTRIBUTES, [], token=token, Content_Type="text/plain")).status == 415

    @pytest.mark.parametrize("token_", ["", "x"])
    async def test_without_a_good_token_is_refused(self, peer: Peer, token_: str) -> None:
        assert (await peer.call("PUT", ATTRIBUTES, [], token=token_)).status == 401

    async def test_with_another_method_is_refused(self, peer: Peer, token: str) -> None:
        assert (await peer.call("GET", ATTRIBUTES, token=token)).status == 405


class TestManagement:
    @pytest.fixture
    async def fleet(self, peer: Peer) -> Peer:
        for serial, version in (("1", 3), ("2", 1), ("3", 2)):
            token = await peer.accepted({"serial": serial, "line": 7})
            body = [attribute("version", version), attribute("mac", ["aa:bb", f"0{serial}"], description="all")]
            await peer.call("PUT", ATTRIBUTES, body, token=token)
        return peer

    async def serials(self, peer: Peer, query: str) -> list[str]:
        found = await peer.call("GET", f"{DEVICES}?{query}")
        assert found.status == 200
        assert found.headers["x-total-count"] == str(len(found.json))
        return [serial(item) for item in found.json]

    async def test_shows_all_attributes(self, fleet: Peer) -> None:
        found = (await fleet.call("GET", f"{DEVICES}?identity/serial=1")).json[0]
        scopes = {(item["scope"], item["name"]): item["value"] for item in found["attributes"]}
        assert scopes["identity", "serial"] == "1"
        assert scopes["identity", "line"] == 7
        assert scopes["identity", "status"] == "accepted"
        assert scopes["inventory", "version"] == 3
        assert ("system", "created_ts") in scopes
        assert ("system", "check_in_time") in scopes
        assert [item.get("description") for item in found["attributes"] if item["name"] == "mac"] == ["all"]
        assert (await fleet.call("GET", f"{DEVICES}/{found['id']}")).json == found
        assert (await fleet.call("GET", f"{DEVICES}/other")).status == 404

    async def test_filters_and_sorts(self, fleet: Peer) -> None:
        assert await self.serials(fleet, "version=2") == ["3"]
        assert await self.serials(fleet, "version=eq:2.0") == ["3"]
        assert await self.serials(fleet, "mac=01") == ["1"]
        assert sorted(await self.serials(fleet, "mac=aa:bb")) == ["1", "2", "3"]
        assert await self.serials(fleet, "identity/status=pending") == []
        assert await self.serials(fleet, "sort=version:asc") == ["2", "3", "1"]
        assert await self.serials(fleet, "sort=identity/serial:desc") == ["3", "2", "1"]
        assert await self.serials(fleet, "group=none") == []
        assert await self.serials(fleet, "has_group=true") == []
        assert len(await self.serials(fleet, "has_group=false")) == 3

    async def test_comes_in_pages(self, fleet: Peer) -> None:
        found = await fleet.call("GET", f"{DEVICES}?page=2&per_page=1")
        assert len(found.json) == 1
        assert found.headers["x-total-count"] == "3"
        relations = [link.partition("rel=")[2].strip('"') for link in found.links]
        assert relations == ["first", "prev", "next", "last"]

    @pytest.mark.parametrize("query", ["page=0", "per_page=501", "sort=version:up", "has_group=maybe"])
    async def test_with_a_wrong_query_is_refused(self, peer: Peer, query: str) -> None:
        assert (await peer.call("GET", f"{DEVICES}?{query}")).status == 400

    async def test_searches(self, fleet: Peer) -> None:
        async def search(**body: object) -> list[str]:
            found = await fleet.call("POST", SEARCH, body)
            assert found.status == 200
            return [serial(item) for item in found.json]

        def term(name: str, kind: str, value: object, scope: str = "inventory") -> dict[str, object]:
            return {"scope": scope, "attribute": name, "type": kind, "value": value}

        by_serial = [{"scope": "identity", "attribute": "serial", "order": "asc"}]
        assert await search(filters=[term("version", "$eq", 2)]) == ["3"]
        assert await search(filters=[term("mac", "$eq", "02")]) == ["2"]
        assert await search(filters=[term("serial", "$eq", "2", "identity"), term("version", "$eq", 2)]) == []
        assert await search(filters=[term("version", "$ne", 2)], sort=by_serial) == ["1", "2"]
        assert await search(filters=[term("version", "$in", [1, 2])], sort=by_serial) == ["2", "3"]
        assert await search(filters=[term("version", "$nin", [1, 2])]) == ["1"]
        assert await search(filters=[term("other", "$exists", value=True)]) == []
        assert len(await search(filters=[term("other", "$exists", value=False)])) == 3
        device = fleet.lab.devices()[0]
        assert await search(device_ids=[device.id]) == [device.identity["serial"]]
        assert await search(sort=by_serial, page=2, per_page=2) == ["3"]

    async def test_searches_show_chosen_attributes(self, fleet: Peer) -> None:
        body = {"attributes": [{"scope": "inventory", "attribute": "version"}], "per_page": 1}
        found = await fleet.call("POST", SEARCH, body)
        assert [item["name"] for item in found.json[0]["attributes"]] == ["version"]
        assert found.headers["x-total-count"] == "3"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            {"per_page": 501},
            {"filters": {}},
            {"filters": [{}]},
            {"filters": [{"scope": "inventory", "attribute": "a", "type": "$like", "value": 1}]},
            {"filters": [{"scope": "inventory", "attribute": "a", "type": "$regex", "value": "1"}]},
            {"filters": [{"scope": "other", "attribute": "a", "type": "$eq", "value": 1}]},
            {"filters": [{"scope": "inventory", "attribute": "", "type": "$eq", "value": 1}]},
            {"filters": [{"scope": "inventory", "attribute": "a", "type": "$eq"}]},
            {"sort": [{"scope": "inventory", "attribute": "a", "order": "up"}]},
        ],
    )
    async def test_search_that_is_wrong_is_refused(self, peer: Peer, body: object) -> None:
        found = await peer.call("POST", SEARCH, body)
        assert found.status == 400
        assert found.error

    async def test_a_status_in_the_identity_does_not_hide_the_real_one(self, peer: Peer) -> None:
        await peer.authenticate({"serial": "1", "status": "accepted"})
        (device,) = (await peer.call("GET", DEVICES)).json
        (status,) = [item["value"] for item in device["attributes"] if item["name"] == "status"]
        assert status == "pending"

    async def test_the_check_in_time_is_copied_once_a_day(self, peer: Peer, clock: Clock) -> None:
        async def check_in() -> str:
            (device,) = (await peer.call("GET", DEVICES)).json
            return str(next(item["value"] for item in device["attributes"] if item["name"] == "check_in_time"))

        token = await peer.accepted({"serial": "1"})
        first = await check_in()
        clock.now += 3600
        assert await peer.alive(token)
        assert await check_in() == first
        clock.now += 86400
        assert await peer.alive(token)
        assert await check_in() > first


def serial(device: dict[str, Any]) -> str:
    return str(next(item["value"] for item in device["attributes"] if item["name"] == "serial"))
