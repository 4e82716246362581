"""`device.conf`: what a `mender.conf` becomes, and what it is never made into."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.values import parse_backend
from mtls_ambassador.device.conf import CERTIFICATE, KEY, Wanted, check_server_url, host_of, merge, text_of
from mtls_ambassador.device.errors import ConfigurationFileError, WantedError

EDGE = "https://my-server.com:8080"


def merged(existing: str | None, **wanted: Any) -> dict[str, Any]:
    found = merge(existing, Wanted(**{"server_url": EDGE, **wanted})).text
    assert found.endswith("}\n")
    value: dict[str, Any] = json.loads(found)
    return value


@pytest.mark.parametrize("existing", [None, "", " \n", "{}", "\ufeff{}"])
def test_both_kinds_of_clients_sign_with_the_certificates_key(existing: str | None) -> None:
    assert merged(existing) == {
        "ServerURL": EDGE,
        "HttpsClient": {"Certificate": CERTIFICATE, "Key": KEY},
        "Security": {"AuthPrivateKey": KEY},
    }


def test_what_is_there_stays_in_its_order() -> None:
    existing = (
        """{"UpdatePollIntervalSeconds": 5, "ServerURL": "https://old", "HttpsClient": {"Other": "ø"}, "Z": [1]}"""
    )
    found = merge(existing, Wanted(server_url=EDGE)).text
    assert list(json.loads(found)) == ["UpdatePollIntervalSeconds", "ServerURL", "HttpsClient", "Z", "Security"]
    assert '"Other": "ø"' in found


def test_tenant_token_and_server_ca() -> None:
    found = merged('{"TenantToken": "old"}', tenant_token="t", server_ca="/ca.crt")
    assert (found["TenantToken"], found["ServerCertificate"]) == ("t", "/ca.crt")
    kept = merged('{"TenantToken": "old", "ServerCertificate": "/old"}')
    assert (kept["TenantToken"], kept["ServerCertificate"]) == ("old", "/old")


def test_a_pkcs11_key_and_back() -> None:
    uri = "pkcs11:token=t;object=k"
    first = merge(None, Wanted(server_url=EDGE, key=uri, ssl_engine="pkcs11")).text
    found = json.loads(first)
    assert found["HttpsClient"] == {"Certificate": CERTIFICATE, "Key": uri, "SSLEngine": "pkcs11"}
    assert found["Security"] == {"AuthPrivateKey": uri, "SSLEngine": "pkcs11"}
    assert merged(first) == merged(None)  # the engine is gone with the URI


def test_a_pkcs11_key_needs_its_engine_and_is_not_repeated() -> None:
    with pytest.raises(WantedError, match="no SSL engine is named") as error:
        merged(None, key="pkcs11:token=t;pin-value=1234")
    assert "1234" not in str(error.value)
    assert "1234" not in repr(Wanted(key="pkcs11:token=t;pin-value=1234"))


@pytest.mark.parametrize("wanted", [{"certificate": "cert.pem"}, {"key": "key.pem"}, {"server_ca": "ca.pem"}])
def test_places_on_the_device_are_absolute(wanted: dict[str, str]) -> None:
    with pytest.raises(WantedError, match="not an absolute path"):
        merged(None, **wanted)


def test_a_spelling_that_the_go_client_would_read_too_goes() -> None:
    found = merged('{"serverurl": "https://hosted.mender.io", "httpsclient": {"key": "/old", "X": 1}}')
    assert found == merged(None) | {"HttpsClient": {"X": 1, "Certificate": CERTIFICATE, "Key": KEY}}


def test_servers_beside_a_server_url_would_be_refused() -> None:
    existing = '{"Servers": [{"ServerURL": "https://hosted.mender.io"}]}'
    found = merge(existing, Wanted(server_url=EDGE))
    assert "Servers" not in json.loads(found.text)
    assert "Servers is taken out" in found.remarks[0]


def test_servers_that_are_all_edges_may_stay() -> None:
    existing = '{"Servers": [{"ServerURL": "https://a.example"}, {"ServerURL": "https://b.example"}]}'
    found = merge(existing, Wanted())
    assert found.server_url == "https://a.example"
    assert len(json.loads(found.text)["Servers"]) == 2


@pytest.mark.parametrize(
    "existing",
    [
        '{"ServerURL": "https://hosted.mender.io/"}',  # what Mender's page shows
        '{"serverURL": "https://hosted.mender.io"}',
        '{"Servers": [{"ServerURL": "https://a.example"}, {"ServerURL": "https://hosted.mender.io"}]}',
    ],
)
def test_a_file_that_leads_past_the_edge_is_not_taken_as_it_is(existing: str) -> None:
    with pytest.raises(WantedError, match=r"mender\.conf: the server URL .* is the Mender Server, not the edge"):
        merge(existing, Wanted())


def test_no_server_at_all() -> None:
    with pytest.raises(WantedError, match="names no server"):
        merge("{}", Wanted())


@pytest.mark.parametrize("servers", ["[1]", "[{}]", "1", '{"ServerURL": 1}'])
def test_servers_of_another_form(servers: str) -> None:
    with pytest.raises(ConfigurationFileError, match="Servers is not a list of objects"):
        merge(f'{{"Servers": {servers}}}', Wanted())


@pytest.mark.parametrize("part", ["HttpsClient", "Security"])
def test_a_part_of_the_wrong_type(part: str) -> None:
    with pytest.raises(ConfigurationFileError, match=f"{part} is not an object"):
        merged(f'{{"{part}": "x"}}')


def test_skip_verify_is_remarked() -> None:
    found = merge('{"SkipVerify": true}', Wanted(server_url=EDGE))
    assert json.loads(found.text)["SkipVerify"] is True
    assert "any server" in found.remarks[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://hosted.mender.io",
        "https://HOSTED.mender.io./",
        "https://eu.hosted.mender.io:443",
        "https://mender.io",
        "https://mender.example.com:443/",
        "https://Mender.example.com",
    ],
)
def test_the_upstream_is_not_the_edge(url: str) -> None:
    with pytest.raises(WantedError, match="is the Mender Server, not the edge"):
        check_server_url(url, [parse_backend("https://mender.example.com")])


@pytest.mark.parametrize(
    "url",
    ["https://mender.example.com:8080", "https://notmender.io", "https://mender.io.example.com", "https://[::1]:8"],
)
def test_what_may_be_an_edge(url: str) -> None:
    assert check_server_url(f"{url}/", [parse_backend("https://mender.example.com")]) == url


@pytest.mark.parametrize(
    "url",
    ["http://my-server.com", "my-server.com", "https://", "https://a/b", "https://u:p@a", "https://a b", "ftp://a"],
)
def test_what_is_no_server_url(url: str) -> None:
    with pytest.raises(WantedError) as error:
        check_server_url(url)
    assert "u:p" not in str(error.value)


def test_the_host_of_a_url() -> None:
    assert [host_of(url) for url in (EDGE, "https://[::1]:8")] == ["my-server.com", "::1"]


def test_text_that_is_none() -> None:
    assert text_of(None, "f") is None
    with pytest.raises(ConfigurationFileError, match="f is not UTF-8"):
        text_of(b"\xff", "f")


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
_OURS = {"serverurl", "servers", "httpsclient", "security", "skipverify"}


@given(st.dictionaries(st.text().filter(lambda name: name.lower() not in _OURS), _JSON))
def test_merging_again_changes_nothing_and_keeps_everything(existing: dict[str, Any]) -> None:
    once = merge(json.dumps(existing), Wanted(server_url=EDGE)).text
    assert merge(once, Wanted(server_url=EDGE)).text == once
    found = json.loads(once)
    assert {name: found[name] for name in existing} == existing
