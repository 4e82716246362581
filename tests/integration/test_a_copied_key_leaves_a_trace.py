"""A key and certificate are used from two addresses within the hour for which the edge remembers an admission."""

from __future__ import annotations

import json
from pathlib import Path

from mtls_ambassador.admission.identity import normal_form
from mtls_ambassador.ledger.queries import device
from mtls_ambassador.ledger.records import EventKind
from tests.raw_device import RawDevice
from tests.world import world


async def test_a_copied_key_leaves_a_trace(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with world(tmp_path, audit_log=str(audit)) as w:
        owner = RawDevice(w)
        thief = RawDevice(w, owner.identity, holder=owner.holder, source="127.0.0.2")
        for who in (owner, owner, thief, thief, owner):
            assert (await who.authenticate()).status == 200
        assert await w.history(EventKind.ADMITTED) == ["admitted"] * 3
        assert w.edge.ledger is not None
        identity = normal_form(owner.identity)
        seen = await w.edge.ledger.query(lambda connection: device(connection, identity))
        assert seen is not None
        assert seen.last_address.startswith("127.0.0.1:")
        assert seen.last_admitted is not None
        assert seen.last_admitted > seen.first_seen
    lines = [line for line in map(json.loads, audit.read_text().splitlines()) if line["event"] == "admitted"]
    assert [line["address"].rpartition(":")[0] for line in lines] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    assert [line.get("detail") for line in lines] == [None, "from 127.0.0.1 before", "from 127.0.0.2 before"]
    assert {line["mender_status"] for line in lines} == {200}
    assert all(line["rule"] for line in lines)
