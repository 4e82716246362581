"""`cli.main`: help in every form, exit statuses, and an option for every setting but secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
from click.testing import CliRunner

from mtls_ambassador import __version__, ambassador
from mtls_ambassador.cli.main import command, main
from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.errors import Error

LEAST = {"MTLS_MENDER_BACKEND": "https://hosted.mender.io", "MTLS_MENDER_USER": "a@b.c", "MTLS_MENDER_PASS": "hunter2"}


@dataclass
class Ended:
    """How a command line ended."""

    status: object
    out: str
    err: str


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("os.environ", {"PATH": "/bin"})
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Run:
    """Runs command lines in this process; `settings` is what an edge was started with last."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.settings: Settings | None = None
        self.ends_with: BaseException | None = None
        monkeypatch.setattr(ambassador, "run", self._edge)

    async def _edge(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        if self.ends_with is not None:
            raise self.ends_with

    def __call__(self, *arguments: str, environment: Mapping[str, str] = LEAST) -> Ended:
        self._monkeypatch.setattr("os.environ", dict(environment))
        status: object = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            status = end.code
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert "hunter2" not in captured.out + captured.err
        return Ended(status, captured.out, captured.err)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(capsys, monkeypatch)


def every_command(group: click.Group = command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from every_command(found, (*path, name))
        else:
            yield (*path, name)


# Help and version


@pytest.mark.parametrize("form", ["-h", "--help", "help", "h"])
def test_help_in_every_form(run: Run, form: str) -> None:
    ended = run(form)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("Usage: mtls-ambassador [OPTIONS] ")
    for name in ("serve", "demo", "pki", "lab", "help"):
        assert f"\n  {name} " in ended.out
    assert run.settings is None


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
@pytest.mark.parametrize("form", ["-h", "--help"])
def test_every_command_has_help(run: Run, path: tuple[str, ...], form: str) -> None:
    ended = run(*path, form)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: {' '.join(('mtls-ambassador', *path))} ")


@pytest.mark.parametrize(
    "path", [("serve",), ("pki",), ("pki", "init"), ("lab", "server"), ("lab", "device"), ("demo",)], ids=" ".join
)
@pytest.mark.parametrize("form", ["help", "h"])
def test_help_on_a_command(run: Run, path: tuple[str, ...], form: str) -> None:
    assert run(form, *path).out == run(*path, "--help").out


def test_help_on_no_command(run: Run) -> None:
    ended = run("help", "pki", "xyzzy")
    assert ended.status == 2
    assert "there is no command 'pki xyzzy'" in ended.err


@pytest.mark.parametrize("form", ["--version", "-V"])
def test_the_version(run: Run, form: str) -> None:
    assert run(form) == Ended(0, f"mtls-ambassador {__version__}\n", "")


def test_every_option_is_described() -> None:
    for path in every_command():
        found: click.Command = command
        for name in path:
            assert isinstance(found, click.Group)
            inner = found.get_command(click.Context(found), name)
            assert inner is not None
            found = inner
        assert found.help or found.hidden, path
        for parameter in found.params:
            if isinstance(parameter, click.Option) and parameter.name not in {"key_type", "listen"}:
                assert parameter.help, (path, parameter.name)


# Settings


@pytest.mark.parametrize("key", [key for key in Settings.model_fields if key not in SECRET_KEYS])
@pytest.mark.parametrize("name", [None, "serve"])
def test_every_setting_is_an_option(name: str | None, key: str) -> None:
    found = command if name is None else command.commands[name]
    (option,) = [parameter for parameter in found.params if parameter.name == key]
    assert f"--{key.replace('_', '-')}" in option.opts
    assert isinstance(option, click.Option)
    assert option.help == Settings.model_fields[key].description
    assert option.default is None  # or the file and the environment would never count


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
@pytest.mark.parametrize("name", [(), ("serve",)])
@pytest.mark.parametrize("form", ["{}={}", "{} {}"])
def test_secrets_are_no_options(run: Run, name: tuple[str, ...], key: str, form: str) -> None:
    option = f"--{key.replace('_', '-')}"
    ended = run(*name, *form.format(option, "hunter2").split(" "))
    assert ended.status == 2
    assert "No such option" in ended.err
    assert f"{option}-file" in ended.err  # what to take instead
    assert run.settings is None


@pytest.mark.parametrize("arguments", [("--listen", "9443", "--debug-log"), ("serve", "--listen=9443", "--debug-log")])
def test_options_reach_the_edge(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == Ended(0, "", "")
    assert run.settings is not None
    assert run.settings.listen.port == 9443
    assert run.settings.debug_log


def test_options_before_and_after_the_command(run: Run) -> None:
    assert run("--listen", "1", "--health-listen", "1", "serve", "--listen", "2").status == 0
    assert run.settings is not None
    assert (run.settings.listen.port, run.settings.health_listen.port) == (2, 1)


def test_a_switch_can_be_turned_off(run: Run) -> None:
    assert run("--no-require-same-key", environment={**LEAST, "MTLS_REQUIRE_SAME_KEY": "true"}).status == 0
    assert run.settings is not None
    assert not run.settings.require_same_key


def test_a_secret_may_come_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    assert run("--mender-pass-file", str(tmp_path / "secret")).status == 0
    assert run.settings is not None
    assert run.settings.mender_pass is not None
    assert run.settings.mender_pass.get_secret_value() == "from-file"


def test_the_file_is_named_or_is_config_yaml_here(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("listen = 1\n")
    (tmp_path / "config.yaml").write_text("listen: 2\n")
    for arguments, port in (((), 2), (("--config", "other.toml"), 1), (("serve", "--config=other.toml"), 1)):
        assert run(*arguments).status == 0
        assert run.settings is not None
        assert run.settings.listen.port == port


def test_an_unknown_variable_is_warned_of(run: Run) -> None:
    ended = run(environment={**LEAST, "MTLS_LISTNE": "1"})
    assert ended.status == 0
    assert "warning environment MTLS_LISTNE is not a setting and is ignored; did you mean MTLS_LISTEN?" in ended.err


# Exit statuses


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--xyzzy",), "No such option"),
        (("xyzzy",), "No such command"),
        (("--listen",), "requires an argument"),
        (("serve", "xyzzy"), "unexpected extra argument"),
        (("--listen", "localhost:1"), "listen (command line --listen): 'localhost:1' holds no IP address"),
        (("--config", "none.yaml"), "none.yaml: cannot be read: No such file or directory"),
        (("pki",), "Usage: mtls-ambassador pki"),
        (("pki", "init"), "Missing option '--cn'"),
        (("lab", "server"), "needs a password"),
        (("lab", "device"), "--server"),
        (("lab", "device", "--server", "http://edge"), "is not an https:// URL"),
        (("lab", "device", "--server", "https://edge/path"), "holds a path"),
        (("lab", "device", "--server", "https://edge"), "needs --cert and --key, or --ca-dir"),
        (("lab", "device", "--server", "https://edge", "--cert", "server.crt"), "does not exist"),
        (("lab", "device", "--server", "https://edge", "--ca-dir", ".", "--identity", "mac=a"), "stands instead of"),
        (("lab", "device", "--server", "https://edge", "--identity", "mac"), "write NAME=VALUE"),
        (("lab", "device", "--server", "https://edge", "--duration", "soon"), "is not a duration"),
        (("lab", "server", "--password", "x", "--listen", "a:b"), "is not an address to listen on"),
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...], text: str) -> None:
    ended = run(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert text in ended.err


def test_missing_settings_are_2_and_all_named(run: Run) -> None:
    ended = run(environment={})
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("mtls-ambassador: mender_backend: is not set\n  Set MTLS_MENDER_BACKEND")


def test_a_failed_run_is_1(run: Run) -> None:
    run.ends_with = Error("the port is taken", "Choose another.")
    assert run() == Ended(1, "", "mtls-ambassador: the port is taken\n  Choose another.\n")


def test_a_fault_of_ours_is_1_and_one_line(run: Run) -> None:
    run.ends_with = ZeroDivisionError("it does not work")
    ended = run()
    assert ended.status == 1
    assert ended.err.splitlines() == [
        "mtls-ambassador: the edge failed: ZeroDivisionError: it does not work",
        "  Run it with debug_log and report what it says.",
    ]


def test_a_fault_of_ours_has_a_traceback_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("it does not work")

    monkeypatch.setattr(ambassador, "run", fail)
    result = CliRunner().invoke(command, ["--debug-log"], env=LEAST)
    assert isinstance(result.exception, Error)
    assert "    Traceback (most recent call last):" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "value", "wanted"),
    [
        ((), "true", True),
        ((), "false", False),
        (("--debug-log",), "", True),
        (("--no-debug-log",), "true", False),
        (("--config", "edge.yaml"), "", True),
        (("--config", "edge.yaml"), "false", False),
    ],
)
def test_a_fault_of_any_command_has_a_traceback_for_who_asks(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    value: str,
    wanted: bool,
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("it does not work")

    monkeypatch.setitem(command.commands, "fail", click.Command("fail", callback=fail))
    monkeypatch.setattr("os.environ", {"MTLS_DEBUG_LOG": value})
    Path("edge.yaml").write_text("debug_log: true\n")
    with pytest.raises(SystemExit, match="1"):
        main([*arguments, "fail"])
    told = capsys.readouterr().err
    assert ("Traceback" in told) is wanted
    assert "mtls-ambassador: ZeroDivisionError: it does not work" in told


def test_ctrl_c_is_130(run: Run) -> None:
    run.ends_with = KeyboardInterrupt()
    assert run().status == 130


def test_a_reader_that_left_is_no_fault(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    run.ends_with = BrokenPipeError(32, "Broken pipe")
    ended = run()
    assert ended.status == 1
