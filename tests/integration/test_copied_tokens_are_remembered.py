"""A copied or forged token is in the audit log and the ledger: who showed it, whose it is, no more than is needed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mtls_ambassador.devices.questions import explained, look_up
from mtls_ambassador.ledger.records import EventKind
from tests.forged_tokens import claims_for, claims_of, forge, header_of, new_token_key, pem
from tests.raw_device import RawDevice
from tests.world import World, eventually, world

KEY, FOREIGN = new_token_key(), new_token_key()


def audited(path: Path, reason: str) -> list[dict[str, Any]]:
    lines = map(json.loads, path.read_text().splitlines())
    return [line for line in lines if line.get("reason") == reason]


async def explanation(w: World, query: str) -> dict[str, Any]:
    assert w.edge.ledger is not None
    await w.edge.ledger.flush()
    (answer,) = explained(await w.edge.ledger.query(lambda connection: look_up(connection, query)))
    return dict(answer)


@pytest.mark.parametrize("access_log", ["off", "errors", "all"])
async def test_a_copied_token_names_thief_and_victim(tmp_path: Path, access_log: str) -> None:
    audit = tmp_path / "audit.jsonl"
    async with world(tmp_path / "w", bind_tokens=True, audit_log=str(audit), access_log=access_log) as w:
        victim, thief = RawDevice(w), RawDevice(w)
        token = (await victim.authenticate()).token
        await thief.authenticate()
        assert await thief.call(token) == 401
        await eventually(lambda: audited(audit, "token_of_another_certificate"))
        (line,) = audited(audit, "token_of_another_certificate")
        assert line["event"] == "refused"
        assert line["certificate"]["sha256"] == thief.holder.fingerprint
        assert line["certificate"]["anchor"] == "default"
        assert line["token_of"] == victim.holder.fingerprint
        assert line["address"].startswith("127.0.0.1:")
        (warning,) = w.log_lines(line["request_id"])
        assert "reason=token_of_another_certificate" in warning

        assert await w.history(EventKind.REFUSED) == ["token_of_another_certificate"]
        of_victim = await explanation(w, victim.holder.fingerprint)
        serial = line["certificate"]["serial"]
        told = [sentence for sentence in of_victim["explanation"]["summary"] if serial in sentence]
        assert "was refused with it" in told[0]
        assert "token_of_another_certificate" in told[0]
        of_thief = await explanation(w, thief.holder.fingerprint)
        assert f'{victim.identity["mac"]}"}}, too' in " ".join(of_thief["explanation"]["summary"])
        assert await victim.call(token) == 200


async def test_a_forged_token_is_remembered_and_an_expired_one_is_not(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with world(tmp_path / "w", bind_tokens=True, token_key=pem(KEY), audit_log=str(audit)) as w:
        device = RawDevice(w)
        raw = claims_of((await device.authenticate()).token)["mtk"]
        own = device.holder.fingerprint
        past = int(time.time()) - 1000
        assert await device.call(raw) == 401, "Mender's own, as after bind_tokens was turned on"
        assert await device.call(forge(KEY.sign, header_of(KEY), claims_for(own, raw, exp=past))) == 401
        assert await device.call(forge(FOREIGN.sign, header_of(FOREIGN), claims_for(own, raw))) == 401
        assert await device.call(forge(FOREIGN.sign, header_of(KEY), claims_for(own, raw))) == 401
        await eventually(lambda: len(audited(audit, "token_of_unknown_key")) == 2)
        assert await w.history(EventKind.REFUSED) == ["token_of_unknown_key"] * 2
        assert "token_of" not in audited(audit, "token_of_unknown_key")[0]
        answer = await explanation(w, own)
        assert (answer["kind"], answer["history"][0]["reason"]) == ("device", "token_of_unknown_key")


async def test_a_renewed_certificate_is_no_strangers_claim(tmp_path: Path) -> None:
    """It shows the old certificate's token once; what it may do afterwards does not depend on that."""
    async with world(tmp_path, bind_tokens=True) as w:
        device = RawDevice(w)
        token = (await device.authenticate()).token
        renewed = RawDevice(w, device.identity, holder=w.ca.device("renewed", key=device.holder.key))
        assert await renewed.call(token) == 401
        await eventually(lambda: w.log_lines("token_of_another_certificate"))
        assert await renewed.call((await renewed.authenticate()).token) == 200
        answer = await explanation(w, renewed.holder.fingerprint)
        assert answer["explanation"]["state"] == "admitted"


async def test_a_flood_is_cut_and_counted(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    async with world(tmp_path / "w", bind_tokens=True, audit_log=str(audit)) as w:
        victim, thief = RawDevice(w), RawDevice(w)
        token = (await victim.authenticate()).token
        for _ in range(15):
            assert await thief.call(token) == 401
        await eventually(lambda: len(w.log_lines("token_of_another_certificate")) == 15)
        assert await w.history(EventKind.REFUSED) == ["token_of_another_certificate"] * 10
        await eventually(lambda: len(audited(audit, "token_of_another_certificate")) == 10)
