"""The page shows what there is, and nothing that a device says becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re

from mtls_ambassador.lab.server import LabArtifact, LabAuthSet, LabDeployment, LabDevice
from mtls_ambassador.lab.server.page import Overview, render
from tests.unit.lab.server.conftest import Start
from tests.unit.lab.server.peer import ATTRIBUTES, PASSWORD, USER, Peer, basic

EVIL = "<script>alert('1')</script>\"&"
NOW = "2027-01-15T08:00:00.250Z"


def _page(name: str = "plain", *, devices: int = 1) -> str:
    device = LabDevice(
        "id-1",
        {name: name, "list": [name, 1]},
        "accepted",
        (LabAuthSet("set-1", "PEM", "accepted"),),
        {f"{name}{number}": name for number in range(6)},
        decommissioning=False,
    )
    deployment = LabDeployment("id-2", name, name, "inprogress", {"id-1": "failure", name: name}, {"id-1": name}, name)
    configuration = LabDeployment("id-4", "unseen", "unseen", "pending", {}, {}, configuration={name: name})
    artifact = LabArtifact("id-3", name, (name,), 5000, name)
    return render(Overview((device,) * devices, {"id-1": name}, (deployment, configuration), (artifact,), NOW))


def test_everything_is_escaped() -> None:
    page = _page(EVIL)
    assert "<script" not in page
    assert "alert('1')" not in page
    assert page.count("&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;") >= 10
    tags = set(re.findall(r"<(\w+)", page))
    assert set(re.findall(r"<(\w+)", _page())) == tags


def test_what_it_shows() -> None:
    page = _page()
    for text in ("1 devices, 1 accepted", "2027-01-15 08:00:00", "id-1", "plain=plain", ">failure<", ">inprogress<"):
        assert text in page


def test_a_configuration_deployment_shows_what_it_configures() -> None:
    page = _page()
    assert "<td>Configuration</td><td><ul><li><b>plain</b> <code>plain</code></li></ul></td>" in page
    assert "unseen" not in page


def test_a_group_deployment_names_its_group() -> None:
    assert "<td>plain<p>group plain</p></td>" in _page()


def test_nothing_yet() -> None:
    assert render(Overview((), {}, (), (), NOW)).count("None yet.") == 3


def test_very_many_devices_are_not_all_shown() -> None:
    assert "100 more are not shown" in _page(devices=600)


async def test_it_is_for_the_user_only(peer: Peer) -> None:
    for headers in ({}, basic(USER, "wrong"), basic("other@mender.io", PASSWORD)):
        found = await peer.call("GET", "/", token="", **headers)
        assert found.status == 401
        assert found.headers["www-authenticate"].startswith("Basic ")


async def test_it_is_served_with_a_strict_policy(peer: Peer) -> None:
    token = await peer.accepted({"serial": "<i>7"})
    await peer.call("PUT", ATTRIBUTES, [{"name": "hostname", "value": "debian"}], token=token)
    found = await peer.call("GET", "/", token="", **basic(USER, PASSWORD))
    assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "&lt;i&gt;7" in found.text
    assert "debian" in found.text
    policy = found.headers["content-security-policy"]
    style = re.search(r"<style>(.*?)</style>", found.text, re.DOTALL)
    assert style is not None
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert found.headers["cache-control"] == "no-store"


async def test_who_may_not_see_devices_does_not_see_them_here(start: Start) -> None:
    async with start(role="preauthorize-only") as peer:
        assert (await peer.call("GET", "/", token="", **basic(USER, PASSWORD))).status == 403
