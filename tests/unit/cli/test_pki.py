"""`cli.pki` and its parts: what is printed, for people and for scripts, and how wrong input ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mtls_ambassador.cli.main import main
from mtls_ambassador.cli.pki import pki
from tests.certificates import CertificateAuthority

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PKI_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*arguments: str) -> tuple[object, str, str]:
        status: object = 0
        try:
            main(["pki", *arguments])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert "fault of ours" not in captured.err
        return status, captured.out, captured.err

    return run


def good(result: tuple[object, str, str]) -> str:
    status, out, err = result
    assert (status or 0, err) == (0, "")
    return out


@pytest.fixture
def ca(run: Run) -> Run:
    good(run("init", "--cn", "My CA"))
    return run


@pytest.mark.parametrize("name", pki.commands)
def test_every_command_has_an_example(run: Run, name: str) -> None:
    lines = good(run(name, "--help")).splitlines()
    (at,) = [number for number, line in enumerate(lines) if line == "  Example:"]
    assert any(line.startswith(f"    mtls-ambassador pki {name}") for line in lines[at + 1 :])


@pytest.mark.parametrize("name", sorted(set(pki.commands) - {"list"}))
def test_every_command_has_dir_and_json(name: str) -> None:
    options = {option for parameter in pki.commands[name].params for option in parameter.opts}
    assert {"--dir", "--json"} <= options
    if name in {"init", "server", "device", "sign", "renew", "crl"}:
        assert "--out" in options


def test_no_option_takes_a_passphrase() -> None:
    for command in pki.commands.values():
        for parameter in command.params:
            assert not {"--passphrase", "--password"} & set(parameter.opts)


def test_json_of_what_was_made(run: Run) -> None:
    ca = json.loads(good(run("init", "--cn", "My CA", "--json")))
    server = json.loads(good(run("server", "--cn", "a.example", "--json")))
    device = json.loads(good(run("device", "--cn", "dev-1", "--san", "URI:urn:x", "--out", "d", "--json")))
    assert (ca["certificate"], server["key"]) == ("ca-cert.pem", "server-private.key")
    assert (device["certificate"], device["subject"], device["issuer"]) == ("d/device-cert.pem", "CN=dev-1", "CN=My CA")
    assert len(device["serial"]) == 32
    assert len(device["fingerprint"]) == 64
    assert device["not_after"].endswith("+00:00")


def test_init_out_is_where_the_ca_lies(run: Run) -> None:
    out = good(run("init", "--cn", "My CA", "--out", "pki", "--intermediate"))
    assert "CN=My CA Intermediate" in out
    assert "Move pki/root to an offline medium" in out
    assert "CN=Other" in good(run("init", "--cn", "My CA", "--dir", "other", "--intermediate", "Other"))


def test_the_list(ca: Run) -> None:
    good(ca("server", "--cn", "a.example", "--days", "20"))
    good(ca("device", "--cn", "dev-1", "--days", "400"))
    revoked = json.loads(good(ca("revoke", "device-cert.pem", "--reason", "keyCompromise", "--json")))
    good(ca("revoke", "0abc", "--unknown"))
    lines = good(ca("list")).splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["valid", "root"], ["valid", "server"], ["revoked", "device"], ["revoked", "(not"],
    ]  # fmt: skip
    assert [each["subject"] for each in json.loads(good(ca("list", "--json", "--kind", "server")))] == ["CN=a.example"]
    assert [each["subject"] for each in json.loads(good(ca("list", "--json", "--expires-within", "30")))] == [
        "CN=a.example"
    ]
    listed = json.loads(good(ca("list", "--json", "--status", "revoked")))
    assert [each["serial"] for each in listed] == [revoked["serial"], "0abc"]
    assert good(ca("list", "--status", "expired")) == ""


def test_renewing_keeps_the_name_of_the_file(ca: Run, tmp_path: Path) -> None:
    good(ca("device", "--cn", "dev-1"))
    (tmp_path / "d").mkdir()
    (tmp_path / "device-cert.pem").rename(tmp_path / "d" / "one.pem")
    old = (tmp_path / "d" / "one.pem").read_bytes()
    assert ca("renew", "d/one.pem")[0] == 1
    assert (tmp_path / "d" / "one.pem").read_bytes() == old
    made = json.loads(good(ca("renew", "d/one.pem", "--new-key", "--replace", "--json")))
    assert (made["certificate"], made["key"]) == ("d/one.pem", "d/one.key")
    again = json.loads(good(ca("renew", made["serial"], "--json")))
    assert again["certificate"] == "device-cert.pem"
    assert "key" not in again


def test_show_and_verify(ca: Run) -> None:
    made = json.loads(good(ca("device", "--cn", "dev-1", "--json")))
    (shown,) = json.loads(good(ca("show", made["serial"], "--json")))
    assert shown["fingerprint_sha256"] == made["fingerprint"]
    out = good(ca("show", "device-private.key", "device-cert.pem"))
    assert "type: private key" in out
    assert "subject: CN=dev-1" in out
    assert good(ca("verify")) == "ca-cert.pem: good\nca-private.key: good\n"
    assert json.loads(good(ca("verify", "device-cert.pem", "--json"))) == []


def test_verify_ends_with_1_if_there_is_an_error(ca: Run, tmp_path: Path) -> None:
    CertificateAuthority("Other").device("dev-1").write(tmp_path, "other")
    status, out, _ = ca("verify", "other.pem")
    assert status == 1
    assert "other.pem: error unknown_ca: the chain ends at CN=dev-1" in out
    status, out, _ = ca("verify", "other.pem", "--json")
    assert status == 1
    (finding,) = [each for each in json.loads(out) if each["severity"] == "error"]
    assert (finding["file"], finding["code"]) == ("other.pem", "unknown_ca")
    assert finding["remedy"]


def test_verify_tells_what_is_revoked(ca: Run, tmp_path: Path) -> None:
    good(ca("device", "--cn", "dev-1", "--out", "d"))
    good(ca("server", "--cn", "my-server.com"))
    for name in ("d/device-cert.pem", "server-cert.pem"):
        good(ca("revoke", name, "--reason", "keyCompromise"))
    good(ca("crl"))
    for arguments in (("d/device-cert.pem",), ("server-cert.pem",), (), ("d/device-cert.pem", "--crl", "ca.crl")):
        status, out, _ = ca("verify", *arguments)
        assert (status, "error revoked: " in out) == (1, True)
    (tmp_path / "index.sqlite3").unlink()
    assert ca("verify", "d/device-cert.pem")[0] == 1
    (tmp_path / "ca.crl").rename(tmp_path / "list")
    good(ca("verify", "d/device-cert.pem"))
    assert ca("verify", "d/device-cert.pem", "--crl", "list")[0] == 1
    (tmp_path / "list").write_bytes(CertificateAuthority("Other").crl())
    status, out, _ = ca("verify", "d/device-cert.pem", "--crl", "list")
    assert (status, "list: error unknown_ca" in out) == (1, True)


def test_what_an_adopted_ca_lacks_is_told_to_scripts_as_well(run: Run, tmp_path: Path) -> None:
    other = CertificateAuthority("Old CA", ca=None, key_usage=None)
    (tmp_path / "ca-cert.pem").write_bytes(other.pem)
    (tmp_path / "ca-private.key").write_bytes(other.key_pem)
    (tmp_path / "notes.crt").write_text("nothing")
    told = json.loads(good(run("adopt", "--json")))
    assert {each["code"] for each in told["findings"]} >= {"ca_flag_missing", "key_readable"}
    assert {each["file"] for each in told["findings"]} == {"ca-cert.pem", "ca-private.key"}
    assert [each["where"] for each in told["left_out"]] == ["notes.crt"]
    out = good(run("adopt"))
    assert "left out: notes.crt: " in out
    assert "ca_flag_missing" in out


def test_who_means_a_second_certificate_says_so(ca: Run) -> None:
    good(ca("device", "--cn", "dev-1"))
    status, _, err = ca("device", "--cn", "dev-1", "--replace")
    assert (status, "CN=dev-1 has a certificate already" in err, "--again" in err) == (1, True, True)
    good(ca("device", "--cn", "dev-1", "--replace", "--again"))


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("init", "--cn", "My CA"), 1, "never overwritten"),
        (("init", "--cn", "", "--dir", "new"), 2, "is empty"),
        (("init", "--cn", "x", "--dir", "new", "--country", "Norway"), 2, "two letters"),
        (("init", "--cn", "x", "--dir", "new", "--days", "0"), 2, "--days"),
        (("init", "--cn", "x", "--dir", "new", "--key-type", "dsa"), 2, "--key-type"),
        (("init", "--cn", "x", "--dir", "new", "--passphrase-file", "none"), 1, "cannot read the passphrase file"),
        (("init", "--cn", "x", "--dir", "new", "--passphrase-file", "empty"), 1, "passphrase is empty"),
        (("server", "--cn", "not a host"), 2, "neither a host name nor an IP address"),
        (("server", "--cn", "a.example", "--san", "IP:a.example"), 2, "neither a host name nor an IP address"),
        (("device",), 2, "--cn"),
        (("device", "--cn", "d" * 65), 2, "at most 64 bytes"),
        (("device", "--cn", "d", "--dir", "none"), 1, "there is no CA in this directory"),
        (("device", "--cn", "d", "--out", "empty/d"), 1, "cannot make the directory"),
        (("sign", "none.req"), 1, "cannot read the request"),
        (("sign", "empty"), 1, "no certificate signing request"),
        (("sign", "empty", "--country", "NO"), 2, "need --cn"),
        (("renew", "none.pem"), 1, "neither a file nor a serial number"),
        (("renew", "0abc"), 1, "on record"),
        (("renew", "ca-cert.pem", "--new-key", "--replace"), 1, "is a new CA"),
        (("revoke", "none.pem"), 1, "neither a file nor a serial number"),
        (("revoke", "empty"), 1, "holds no certificate"),
        (("revoke", "ca-cert.pem"), 1, "cannot revoke itself"),
        (("revoke", "0abc", "--reason", "because"), 2, "--reason"),
        (("list", "--dir", "none"), 1, "pki adopt"),
        (("crl", "--dir", "none"), 1, "there is no CA in this directory"),
        (("show",), 2, "FILE"),
        (("show", "none"), 1, "neither a file nor a serial number"),
        (("show", "empty"), 1, "holds no certificate, key, request or revocation list"),
        (("verify", "none"), 1, "cannot read none"),
        (("verify", "--ca", "empty"), 1, "holds no certificate"),
        (("verify", "--dir", "none"), 1, "there is no CA in this directory"),
        (("adopt", "--dir", "none"), 1, "there is no CA in this directory"),
        (("adopt", "--ca-cert", "ca-cert.pem"), 1, "only one"),
    ],
)
def test_wrong_input(ca: Run, tmp_path: Path, arguments: tuple[str, ...], status: int, text: str) -> None:
    (tmp_path / "empty").touch()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    ended, out, err = ca(*arguments)
    assert (ended, out) == (status, "")
    assert text in err
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def invoked(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(pki, arguments, input=typed)


def test_a_new_passphrase_is_asked_twice(run: Run, tmp_path: Path) -> None:
    assert invoked("init", "--cn", "x", "--encrypt", typed="one\nother\n").exit_code == 1
    assert not (tmp_path / "ca-private.key").exists()
    result = invoked("init", "--cn", "x", "--encrypt", typed="one\none\n")
    assert result.exit_code == 0
    assert "one" not in result.output.replace("ca-", "")
    assert b"ENCRYPTED" in (tmp_path / "ca-private.key").read_bytes()


def test_a_passphrase_comes_from_the_environment_or_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKI_PASSPHRASE", "secret")
    good(run("init", "--cn", "x"))
    good(run("device", "--cn", "one", "--out", "1"))
    monkeypatch.setenv("PKI_PASSPHRASE", "wrong")
    (tmp_path / "pass").write_text("secret\r\n")
    good(run("device", "--cn", "two", "--out", "2", "--passphrase-file", "pass"))
    status, _, err = run("device", "--cn", "three", "--out", "3")
    assert (status, "does not open" in err) == (1, True)
    monkeypatch.delenv("PKI_PASSPHRASE")
    status, _, err = run("device", "--cn", "three", "--out", "3")
    assert (status, "no passphrase was given" in err) == (1, True)
