"""`cli.device`: mender.conf written and kept, secrets out of sight, each wrong input named, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtls_ambassador.cli.main import main
from mtls_ambassador.device.conf import CERTIFICATE, KEY
from tests.certificates import CertificateAuthority

URL = "https://my-server.com:8080"


class Run:
    """Runs command lines in an empty folder; what they print and how they end."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[object, str, str]:
        status: object = 0
        try:
            main(["device", *arguments])
        except SystemExit as end:
            status = end.code
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr("os.environ", {"PATH": "/bin"})
    monkeypatch.chdir(tmp_path)
    return Run(capsys)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    ca = CertificateAuthority()
    ca.device("d").write(tmp_path, "d")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    return ["--cert", "d.pem", "--key", "d.key", "--ca", "ca.pem"]


def written() -> Any:
    return json.loads(Path("mender.conf").read_text())


def test_a_new_file(run: Run) -> None:
    assert run("conf", "--server-url", URL) == (0, f"mender.conf  written: its device connects to {URL}\n", "")
    assert written()["ServerURL"] == URL
    assert Path("mender.conf").stat().st_mode & 0o777 == 0o600
    assert run("conf", "--server-url", URL)[1] == f"mender.conf  as it was: its device connects to {URL}\n"


def test_a_file_that_is_there_keeps_its_mode_and_content(run: Run) -> None:
    Path("mender.conf").write_text('{"Mine": 1}')
    Path("mender.conf").chmod(0o644)
    status, out, _ = run("conf", "--server-url", URL, "--json")
    assert (status, json.loads(out)) == (
        0, {"file": "mender.conf", "changed": True, "server_url": URL, "remarks": []},
    )  # fmt: skip
    assert written()["Mine"] == 1
    assert Path("mender.conf").stat().st_mode & 0o777 == 0o644


def test_every_option(run: Run) -> None:
    Path("token").write_text("abc\n")
    arguments = [
        "--server-url",
        URL,
        "--tenant-token-file",
        "token",
        "--server-ca",
        "/ca.crt",
        "--ssl-engine",
        "pkcs11",
    ]
    assert run("conf", "c.conf", *arguments, "--key-path", "pkcs11:object=k", "--certificate-path", "/c.pem")[0] == 0
    assert json.loads(Path("c.conf").read_text()) == {
        "ServerURL": URL,
        "TenantToken": "abc",
        "ServerCertificate": "/ca.crt",
        "HttpsClient": {"Certificate": "/c.pem", "Key": "pkcs11:object=k", "SSLEngine": "pkcs11"},
        "Security": {"AuthPrivateKey": "pkcs11:object=k", "SSLEngine": "pkcs11"},
    }


def test_a_file_that_is_no_json_stays_as_it_is(run: Run) -> None:
    Path("mender.conf").write_text('{\n  "a": 1, // mine\n}')
    status, out, err = run("conf", "--server-url", URL)
    assert (status, out) == (2, "")
    assert "mender.conf is not valid JSON: line 2, column " in err
    assert "a trailing comma at line 2, column 9, a comment at line 2, column 11" in err
    assert Path("mender.conf").read_text() == '{\n  "a": 1, // mine\n}'


def test_remarks_go_to_stderr(run: Run) -> None:
    Path("mender.conf").write_text('{"SkipVerify": true}')
    assert "SkipVerify is true" in run("conf", "--server-url", URL)[2]


@pytest.mark.parametrize("url", ["https://hosted.mender.io", "https://mender.example.com"])
@pytest.mark.parametrize("known_by", ["option", "environment", "file", "root option"])
def test_the_upstream_is_refused_however_it_is_known(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, known_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = "https://mender.example.com"
    before, after = [], []
    match known_by:
        case "option":
            after = ["--upstream", backend]
        case "environment":
            monkeypatch.setattr("os.environ", {"MTLS_MENDER_BACKEND": backend})
        case "file":
            Path("edge.yaml").write_text(f"mender_backend: {backend}\n")
            before = ["--config", "edge.yaml"]
        case _:
            before = ["--mender-backend", backend]
    with pytest.raises(SystemExit) as end:
        main([*before, "device", "conf", "--server-url", url, *after])
    assert end.value.code == 2
    assert "is the Mender Server, not the edge" in capsys.readouterr().err
    assert not Path("mender.conf").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["conf"], "names no server"),
        (["conf", "--server-url", "http://a"], "is not https"),
        (["conf", "--server-url", URL, "--upstream", "x"], "is not a URL"),
        (["conf", "--server-url", URL, "--key-path", "pkcs11:object=k"], "no SSL engine is named"),
        (["conf", "--server-url", URL, "--tenant-token-file", "none"], "cannot read the tenant token"),
        (["conf", "--server-url", URL, "--tenant-token-file", "empty"], "holds no tenant token"),
        (["conf", "none/mender.conf", "--server-url", URL], "cannot write none/mender.conf"),
        (["push", "-oX=y", "--server-url", URL, "--cert", "d.pem"], "No such option"),
        (["push", "a b", "--server-url", URL, "--cert", "d.pem", "--key", "d.key"], "no device to log in to"),
        (["push", "d", "--server-url", URL, "--cert", "d.pem"], "--cert without --key"),
        (["push", "d", "--cert", "d.pem"], "Missing option '--server-url'"),
        (["push", "d", "--server-url", URL, "--cert", "d.pem", "--key", "d.key", "--hosts-entry", "x"], "no IP"),
        (["push", "d", "--server-url", "https://hosted.mender.io", "--cert", "d.pem"], "is the Mender Server"),
        (["push", "d", "--server-url", URL, "--cert", "none", "--key", "d.key"], "cannot read the certificate none"),
        (
            ["push", "d", "--server-url", URL, "--cert", "d.pem", "--key", "d.key", "--key-path", "pkcs11:o",
             "--ssl-engine", "pkcs11"],
            "leave --key out",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("files")
def test_wrong_input(run: Run, arguments: list[str], says: str) -> None:
    Path("empty").touch()
    before = set(Path().iterdir())
    status, out, err = run(*arguments)
    assert status in {1, 2}
    assert out == ""
    assert says in err.replace("\n", " ")
    assert set(Path().iterdir()) == before


def test_a_dry_run_calls_nobody(run: Run, files: list[str]) -> None:
    Path("token").write_text("very-secret")
    status, out, err = run(
        "push", "root@192.0.2.7:8822", *files, "--server-url", URL, "--hosts-entry", "192.0.2.1", "--dry-run",
        "--host-key", "ignore", "--tenant-token-file", "token", "--sudo", "--ssh-option", "ProxyJump=gate",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "very-secret" not in out
    assert "PRIVATE KEY" not in out
    lines = [line for line in out.splitlines() if line.startswith("ssh ")]
    assert len(lines) == 8
    for line in lines:
        assert line.startswith("ssh -T -o ProxyJump=gate -o BatchMode=yes ")
        assert "-o StrictHostKeyChecking=no" in line
        assert " -p 8822 -- root@192.0.2.7 'sudo -n sh -euc " in line
    assert sum(line.endswith(" $(wc -c < d.key) < d.key") for line in lines) == 1
    assert f'mtls-ambassador device conf "$conf" --server-url {URL} --tenant-token-file token' in out
    for path in (CERTIFICATE, KEY, "/etc/hosts", "systemctl restart", "update-ca-certificates"):
        assert path in out


def test_a_dry_run_for_scripts_is_json(run: Run, files: list[str]) -> None:
    arguments = ("push", "root@192.0.2.7", *files, "--server-url", URL, "--dry-run")
    script = run(*arguments)[1]
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["device"], told["dry_run"], told["script"]) == ("root@192.0.2.7", True, script.removesuffix("\n"))
    assert [f"# {step}" in script for step in told["steps"]] == [True] * 6


def test_a_pkcs11_device_gets_no_key(run: Run, files: list[str]) -> None:
    arguments = ["--key-path", "pkcs11:object=k", "--ssl-engine", "pkcs11", "--server-url", URL, "--dry-run"]
    status, out, _ = run("push", "d", "--cert", "d.pem", *arguments)
    assert status == 0
    assert "private key" not in out
