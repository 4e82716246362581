from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mtls_ambassador.factory.items import Item, Items
from mtls_ambassador.pki.entries import Entry, Kind, Reason, Revocation
from mtls_ambassador.pki.index import Index

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def items(tmp_path: Path) -> Iterator[Items]:
    with Index.open(tmp_path) as index:
        yield Items(index, "batch")


def device(number: int, **changes: str) -> tuple[Item, Entry]:
    serial = f"{number:032x}"
    fingerprint, key, subject = (
        f"{number:064x}",
        changes.get("key", f"k{number}"),
        changes.get("subject", f"CN={number}"),
    )
    item = Item(number, f"d{number}", str(number), "", b"spki", serial, fingerprint, key)
    return item, Entry(
        serial, Kind.DEVICE, subject, key, fingerprint, NOW, NOW + timedelta(days=1), f"out/d{number}", b"der"
    )


def reserve(items: Items, *devices: tuple[Item, Entry], foreign_keys: bool = False) -> dict[str, str]:
    return dict(items.reserve(devices, foreign_keys=foreign_keys))


def test_from_pending_to_issued(items: Items) -> None:
    one, two = device(1), device(2)
    assert reserve(items, two, one) == {}
    assert {item.name for item in items.pending()} == {"d1", "d2"}
    assert items.count() == 0
    assert not items.is_issued("d1")
    items.index.finish([one[0].serial, two[0].serial])
    assert list(items.issued()) == [one[0], two[0]]
    assert items.pending() == []
    assert items.is_issued("d1")
    assert items.find("d1") == one[0]
    assert Items(items.index, "other").find("d1") is None


def test_what_is_discarded_may_be_made_anew(items: Items) -> None:
    one, again = device(1), device(3, subject="CN=1")
    reserve(items, one)
    items.discard([one[0].serial])
    assert items.find("d1") is None
    assert items.index.find(one[0].serial) is None
    assert reserve(items, again) == {}


def test_what_is_issued_is_not_discarded(items: Items) -> None:
    one = device(1)
    reserve(items, one)
    items.index.finish([one[0].serial])
    items.discard([one[0].serial])
    assert items.find("d1") == one[0]


def test_a_subject_gets_one_certificate(items: Items) -> None:
    one, other = device(1), device(2, subject="CN=1")
    (refused,) = reserve(items, one, other).items()
    assert refused[0] == other[0].serial
    assert f"CN=1 has a certificate already, serial {one[0].serial}: " in refused[1]
    assert "add --again" in refused[1]
    assert reserve(replace(items, again=True), other) == {}


def test_a_revoked_or_expired_one_does_not_count(items: Items) -> None:
    one, two = device(1), device(2)
    old = (two[0], replace(two[1], not_before=NOW - timedelta(days=3), not_after=NOW - timedelta(days=2)))
    reserve(items, one, old)
    items.index.revoke([Revocation(one[0].serial, NOW)])
    assert reserve(items, device(3, subject="CN=1"), device(4, subject="CN=2")) == {}


def test_a_foreign_key_is_one_devices_only(items: Items) -> None:
    one, other, same = device(1), device(2, key="k1"), device(3, key="k1", subject="CN=1")
    reserve(items, one)
    refused = reserve(items, other, foreign_keys=True)
    assert "has the key of CN=1 (device" in refused[other[0].serial]
    assert reserve(replace(items, again=True), same, foreign_keys=True) == {}


def test_a_servers_key_is_none_and_a_compromised_one_nobodys_whatever_became_of_them(items: Items) -> None:
    (_, server), (_, lost) = device(1), device(2)
    expired = NOW - timedelta(days=2)
    items.index.add([replace(server, kind=Kind.SERVER, not_after=expired), replace(lost, not_after=expired)])
    items.index.revoke([Revocation(server.serial, NOW), Revocation(lost.serial, NOW, Reason.KEY_COMPROMISE)])
    first, second = device(3, key="k1"), device(4, key="k2", subject="CN=2")
    refused = reserve(replace(items, again=True), first, second, foreign_keys=True)
    assert "has the key of CN=1 (server" in refused[first[0].serial]
    assert "revoked for keyCompromise" in refused[second[0].serial]


def test_a_revoked_one_is_not_listed_and_makes_way_for_another(items: Items) -> None:
    one, two = device(1), device(2)
    reserve(items, one, two)
    items.index.finish([one[0].serial, two[0].serial])
    items.index.revoke([Revocation(one[0].serial, NOW)])
    assert (items.is_revoked("d1"), items.is_revoked("d2"), items.is_revoked("d3")) == (True, False, False)
    assert list(items.issued()) == [two[0]]
    assert items.is_issued("d1"), "somebody may have it"
    assert items.count() == 2
    item, entry = device(3, subject="CN=1")
    item = item._replace(name="d1", line=1)
    assert reserve(replace(items, again=True), (item, entry)) == {}
    items.index.finish([item.serial])
    assert list(items.issued()) == [item, two[0]]
    assert items.find("d1") == item
    assert items.index.find(one[0].serial) is not None


def test_a_revoked_one_stays_so_when_its_next_comes_to_nothing(items: Items) -> None:
    (old, first), (new, second) = device(1), device(3, subject="CN=1")
    reserve(items, (old, first))
    items.index.finish([old.serial])
    items.index.revoke([Revocation(old.serial, NOW)])
    new = new._replace(name="d1", line=1)
    assert reserve(replace(items, again=True), (new, second)) == {}
    assert not items.is_revoked("d1")
    items.discard([new.serial])
    assert items.is_revoked("d1")
    assert items.index.find(new.serial) is None


def test_an_identity_can_be_mended(items: Items) -> None:
    reserve(items, device(1))
    items.identify("d1", '{"mac":"1"}')
    found = items.find("d1")
    assert found is not None
    assert found.identity == '{"mac":"1"}'
