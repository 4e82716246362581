"""Operators ask about devices, and tell the edge whose an identity is, with the real program beside a running edge."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes

from mtls_ambassador.ambassador import Ambassador
from mtls_ambassador.ledger.database import FILE
from mtls_ambassador.ledger.records import EventKind
from tests.edge_process import PROGRAM
from tests.raw_device import RawDevice
from tests.world import World, edge_settings, eventually, world

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
MAC = {"mac": "52:54:00:12:34:56"}
IDENTITY = '{"mac":"52:54:00:12:34:56"}'


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its JSON."""
        assert self.status == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


async def devices(w: World, *arguments: str | Path, state: Path | None = None) -> Ended:
    """Run `mtls-ambassador devices ...` for this world's edge, or with another state directory."""
    assert w.edge.ledger is not None
    await w.edge.ledger.flush()
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        "devices",
        *map(str, arguments),
        env={"PATH": os.environ["PATH"], "MTLS_STATE_DIR": str(state or w.directory / "state")},
        cwd=w.directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert "Traceback" not in err.decode()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def reason(device: RawDevice) -> str | None:
    """Why it is refused; None if it is not."""
    reply = await device.authenticate()
    return None if reply.status == 200 else str(reply.json["reason"])


async def test_a_refused_rotation_then_adopted(tmp_path: Path) -> None:
    async with world(tmp_path, audit_log=str(tmp_path / "audit.jsonl")) as w:
        old = RawDevice(w, MAC, holder=w.ca.device("device-1", not_before=NOW - 10 * DAY))
        new = RawDevice(w, MAC, holder=w.ca.device("board-7", not_before=NOW - DAY))
        assert await reason(old) is None
        assert await reason(new) == "key_change_needs_approval"

        told = await devices(w, "explain", "mac=52:54:00:12:34:56")
        assert told.status == 0
        assert f"{IDENTITY}: admitted, and another certificate that claims it is refused" in told.out
        assert "belongs to the certificate with serial" in told.out
        assert "(CN=device-1), which was last admitted with it on" in told.out
        assert "(CN=board-7) was refused with it" in told.out
        assert "subject 'CN=device-1' of 'CN=My CA', not to this subject and issuer" in told.out
        assert "accept its pending key in Mender" in told.out
        assert "The edge admitted its holder within the last hour" in told.out  # only the edge itself knows

        fingerprint = new.holder.certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        serial = f"{new.holder.certificate.serial_number:x}"
        for query in (IDENTITY, '{ "mac" : "52:54:00:12:34:56" }', "52:54:00:12:34:56", "CN=device-1", "device-1"):
            (answer,) = (await devices(w, "explain", query, "--json")).lines
            assert (answer["kind"], answer["identity"]) == ("device", IDENTITY), query
            assert answer["explanation"]["reason"] == "key_change_needs_approval"
            assert answer["live"]["remembered"]
        for query in (fingerprint, serial, "CN=board-7"):
            (answer,) = (await devices(w, "show", query, "--json")).lines
            assert (answer["kind"], answer["certificate"]["subject"]) == ("certificate", "CN=board-7"), query
            assert [claim["identity"] for claim in answer["refused_with"]] == [IDENTITY]
        assert "CN=device-1" in (await devices(w, "explain", serial)).out
        (refused,) = (await devices(w, "list", "--refused", "1d", "--json")).lines
        assert (refused["identity"], refused["certificate"]["subject"]) == (IDENTITY, "CN=board-7")
        assert refused["last_reason"] == "key_change_needs_approval"
        no = await devices(w, "explain", "52:54:00:ff:ff:ff")
        assert no.status == 1
        assert "searched 1 devices and 2 certificates" in no.err

        manifest = tmp_path / "manifest.csv"
        manifest.write_text(f"identity,fingerprint\nmac=52:54:00:12:34:56,{fingerprint}\nmac=1,no digits\n")
        told = await devices(w, "adopt", manifest)
        assert told.status == 1
        assert "line 3: its fingerprint is not a SHA-256" in told.err
        assert told.out == "1 adoptions noted, 0 were there already\n"
        assert "1 line of the manifest could not be used" in told.err
        assert "0 adoptions noted, 1 were there already" in (await devices(w, "adopt", manifest)).out
        assert (await devices(w, "list", "--adopted", "--json")).lines[0]["adoption"]["by"] == "fingerprint"
        assert await reason(new) is None
        assert await w.history(EventKind.ADOPTION_NOTED, EventKind.ADOPTED) == ["adoption_noted", "adopted"]
        audit = tmp_path / "audit.jsonl"  # written by a thread of its own
        await eventually(lambda: '"event": "adopted"' in audit.read_text())
        assert '"event": "adoption_noted"' in audit.read_text()
        assert await reason(old) == "key_superseded"


async def test_forget_frees_a_certificate_and_an_identity(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        holder = w.ca.device("device-1")
        first, second = RawDevice(w, MAC, holder=holder), RawDevice(w, {"mac": "02"}, holder=holder)
        assert await reason(first) is None
        assert await reason(second) == "certificate_has_another_identity"
        told = await devices(w, "explain", '{"mac":"02"}')
        serial = f"{holder.certificate.serial_number:x}"
        assert f"mtls-ambassador devices forget {serial.zfill(len(serial) + len(serial) % 2)}" in told.out

        asked = await devices(w, "forget", serial)
        assert asked.status == 2
        assert "say --yes" in asked.err
        assert (await devices(w, "forget", serial, "--yes")).status == 0
        assert await reason(second) is None
        # What it was is not remembered here either: it does not get both.
        assert await reason(first) == "certificate_has_another_identity"

        assert "forgotten: the identity" in (await devices(w, "forget", "mac=02", "--yes")).out
        assert "nothing matches" in (await devices(w, "show", "mac=02")).err
        assert await w.history(EventKind.FORGOTTEN) == ["forgotten", "forgotten"]
        assert (await devices(w, "forget", "nobody", "--yes")).status == 1


async def test_lists_and_the_report_of_warn(tmp_path: Path) -> None:
    rules = [{"certificate": "subject.CN", "identity": "mac"}]
    async with world(tmp_path, binding={"mode": "warn", "rules": rules}) as w:
        assert await reason(RawDevice(w, {"mac": "a1"}, holder=w.ca.device("a1"))) is None
        told = await devices(w, "report", "--since", "1h", "--json")
        assert [line["kind"] for line in told.lines] == ["report"]
        assert told.lines[-1]["mode"] == "warn"
        odd = "\x1b]0;owned\x07\u202eb2"  # it would set a terminal's title, and turn text round
        assert await reason(RawDevice(w, {"mac": odd}, holder=w.ca.device("b2"))) is None
        assert await reason(RawDevice(w, {"mac": odd}, holder=w.ca.device("c3"))) == "key_change_needs_approval"

        found = {
            filters: [
                json.loads(line["identity"])["mac"] for line in (await devices(w, "list", *filters, "--json")).lines
            ]
            for filters in (
                (),
                ("--refused",),
                ("--refused", "1h"),
                ("--contested",),
                ("--would-refuse",),
                ("--adopted",),
            )
        }
        assert found == {
            (): ["a1", odd],
            ("--refused",): [odd],
            ("--refused", "1h"): [odd],
            ("--contested",): [],
            ("--would-refuse",): [odd],
            ("--adopted",): [],
        }
        *warned, summary = (await devices(w, "report", "--json")).lines
        assert [json.loads(line["identity"])["mac"] for line in warned] == [odd]
        assert warned[0]["times"] == 2
        assert summary["would_refuse"] == 1
        assert not summary["safe"]
        for command in (("list",), ("report",), ("explain", "CN=b2"), ("show", "CN=b2")):
            told = await devices(w, *command)
            assert told.status == 0
            assert all(line.isprintable() for line in told.out.splitlines()), told.out
            assert "\\u001b]0;owned" in told.out


async def test_without_an_edge_the_ledger_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await reason(RawDevice(w, MAC)) is None
        through_the_edge = (await devices(w, "list", "--json")).out
        assert (await devices(w, "list", "--json", "--ledger", w.directory / "state" / FILE)).out == through_the_edge
        (answer,) = (await devices(w, "explain", IDENTITY, "--json", "--ledger", w.directory / "state" / FILE)).lines
        assert answer["live"] is None

        socket = w.directory / "state" / "control.sock"
        assert socket.stat().st_mode & 0o777 == 0o600
        settings = edge_settings(
            tmp_path, f"http://127.0.0.1:{w.relay.port}", {
                "server_cert": tmp_path / "server.pem", "server_key": tmp_path / "server.key",
                "tenant_ca_pem": tmp_path / "ca.pem",
            },
        )  # fmt: skip
        made = socket.stat().st_ino
        async with Ambassador(settings, {}):
            assert w.log_lines("another edge with the state directory")
        assert socket.stat().st_ino == made
    assert not socket.exists()
    told = await devices_of(tmp_path / "state", "list", "--json")
    assert told.out == through_the_edge

    fresh = tmp_path / "fresh"
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"identity": MAC, "subject": "CN=device-9"}) + "\n")
    assert (await devices_of(fresh, "list")).status == 1
    assert (await devices_of(fresh, "adopt", str(manifest))).status == 0
    assert json.loads((await devices_of(fresh, "list", "--json")).out)["adoption"]["value"] == "CN=device-9"
    assert (await devices_of(fresh, "forget", "mac=52:54:00:12:34:56", "--yes")).status == 0
    assert (await devices_of(fresh, "list", "--json")).out == ""


async def devices_of(state: Path, *arguments: str) -> Ended:
    """The same, where no edge runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mtls_ambassador", "devices", *arguments, "--state-dir", str(state),
        env={"PATH": os.environ["PATH"]},
        cwd=state.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert "Traceback" not in err.decode()
    return Ended(process.returncode or 0, out.decode(), err.decode())
