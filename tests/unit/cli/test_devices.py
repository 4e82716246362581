"""`devices` on the command line: where the ledger is found, exit statuses, what is asked before forgetting."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mtls_ambassador.cli.main import main
from mtls_ambassador.devices.sources import LedgerItself
from mtls_ambassador.ledger.database import FILE
from mtls_ambassador.ledger.records import Adoption, AdoptionKind
from tests.unit.devices.examples import ALICE
from tests.unit.ledger.examples import database


class Run:
    """Runs `devices ...`; returns status, standard output and error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[object, str, str]:
        status: object = 0
        try:
            main(["devices", *map(str, arguments)])
        except SystemExit as end:
            status = end.code or 0
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr("os.environ", {"PATH": "/bin", "HOME": str(tmp_path / "home")})
    monkeypatch.chdir(tmp_path)
    return Run(capsys)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    with LedgerItself(database(directory), ALICE) as ledger:
        ledger.adopt([Adoption('{"mac":"aa"}', AdoptionKind.SUBJECT, "CN=a")])
    return directory


@pytest.mark.parametrize("way", ["option", "environment", "STATE_DIRECTORY", "config", "config.yaml", "ledger"])
def test_where_the_ledger_is(run: Run, state: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[object] = []
    # Nothing else of the configuration is looked at, least of all a password that this user may not read.
    content = f"state_dir: {state}\nmender_pass_file: /not/there\nlisten: nonsense\n"
    match way:
        case "option":
            arguments = ["--state-dir", state]
        case "environment":
            monkeypatch.setitem(os.environ, "MTLS_STATE_DIR", str(state))
        case "STATE_DIRECTORY":
            monkeypatch.setitem(os.environ, "STATE_DIRECTORY", str(state))
        case "config":
            (tmp_path / "edge.yaml").write_text(content)
            arguments = ["--config", "edge.yaml"]
        case "config.yaml":
            (tmp_path / "config.yaml").write_text(content)
        case _:
            arguments = ["--ledger", state / FILE]
    status, out, _ = run("list", "--json", *arguments)
    assert status == 0
    assert json.loads(out)["identity"] == '{"mac":"aa"}'


def test_no_ledger(run: Run, tmp_path: Path) -> None:
    for arguments in (("--state-dir", tmp_path), ("--ledger", tmp_path / "x")):
        status, out, err = run("list", *arguments)
        assert (status, out) == (1, "")
        assert "there is no ledger at" in err


def test_a_ledger_url_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://u:hunter2@h/d")
    status, _, err = run("list", "--ledger-url-file", tmp_path / "url")
    assert status == 2
    assert "does not begin with postgresql://" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("since", ["7d", "2026-06-01", "2026-06-01T12:00:00+02:00", "0"])
def test_since(run: Run, state: Path, since: str) -> None:
    assert run("list", "--refused", since, "--state-dir", state) == (0, "", "")


def test_no_time(run: Run, state: Path) -> None:
    status, _, err = run("list", "--refused", "yesterday", "--state-dir", state)
    assert status == 2
    assert "write 12h, 7d or 2026-06-01" in err


def test_text_and_json(run: Run, state: Path) -> None:
    assert run("explain", "mac=aa", "--state-dir", state)[1].startswith('{"mac":"aa"}: expected\n')
    assert json.loads(run("explain", "aa", "--json", "--state-dir", state)[1])["explanation"]["state"] == "expected"
    assert "adopted by" in run("show", "aa", "--state-dir", state)[1]
    assert run("report", "--state-dir", state)[0] == 0
    status, _, err = run("show", "bb", "--state-dir", state)
    assert status == 1
    assert "nothing matches 'bb' in the ledger" in err


def test_several_matches(run: Run, state: Path) -> None:
    with LedgerItself(database(state), ALICE) as ledger:
        ledger.adopt([Adoption('{"serial":"aa"}', AdoptionKind.SUBJECT, "CN=b")])
    status, out, _ = run("explain", "aa", "--state-dir", state)
    assert status == 0
    assert out.startswith("2 matches for 'aa'; name one")
    assert len(run("explain", "aa", "--json", "--state-dir", state)[1].splitlines()) == 2


def test_adopt(run: Run, state: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(b"\xef\xbb\xbfidentity,subject\nmac=aa,CN=a\nmac=bb,CN=b\nmac=\xff,CN=c\n")
    status, out, err = run("adopt", manifest, "--state-dir", state)
    assert (status, out) == (1, "1 adoptions noted, 1 were there already\n")
    assert "line 4: it holds what is no text" in err
    manifest.write_text("identity,subject\n" + "".join(f"mac={n},CN={n}\n" for n in range(2500)))
    assert run("adopt", manifest, "--state-dir", state)[:2] == (0, "2500 adoptions noted, 0 were there already\n")
    assert run("adopt", tmp_path / "none", "--state-dir", state)[0] == 2


def test_changes_of_the_ledger_itself_reach_the_audit_log_or_say_that_they_do_not(
    run: Run, state: Path, tmp_path: Path
) -> None:
    manifest, audit, config = tmp_path / "m.csv", tmp_path / "audit.jsonl", tmp_path / "edge.yaml"
    manifest.write_text("identity,subject\nmac=bb,CN=b\n")
    assert "in the ledger's history only" in run("adopt", manifest, "--state-dir", state)[2]
    assert run("adopt", manifest, "--state-dir", state)[2] == "", "nothing was changed"
    config.write_text(f"state_dir: {state}\naudit_log: {audit}\n")
    assert run("forget", "mac=bb", "--yes", "--config", config)[::2] == (0, "")
    line = json.loads(audit.read_text())
    assert (line["event"], line["identity"]) == ("forgotten", '{"mac":"bb"}')
    assert f"uid {os.getuid()}" in line["detail"]


def test_forget_asks(run: Run, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("forget", "mac=aa", "--state-dir", state)[0] == 2  # nobody to ask
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert run("forget", "mac=aa", "--state-dir", state)[0] == 130
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "y")
    status, out, _ = run("forget", "mac=aa", "--state-dir", state)
    assert status == 0
    assert 'forgotten: the identity {"mac":"aa"}' in out
    assert run("list", "--state-dir", state) == (0, "", "")
