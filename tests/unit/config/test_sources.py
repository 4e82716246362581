"""`config.sources`: files in four formats, the environment, the command line; and errors that never tell a secret."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.config.sources import Given, Loaded, load, load_backend
from mtls_ambassador.config.values import ListenAddress

BACKEND = "https://hosted.mender.io"
SECRET = "hunter2-never-shown"
LEAST = {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_MENDER_USER": "a@b.c", "MTLS_MENDER_PASS": SECRET}

FORMATS = {
    "yaml": """
# a comment
listen: 0.0.0.0:9443
mender_backend: https://mender.example.com
mender_user: a@b.c
mender_pass: "hunter2-never-shown"
tls_min_version: 1.3
insecure_skip_verify: true
handshake_timeout: 5m
allowed_paths: [/api/devices/v1/, /api/devices/v2/]
mender_ca: null
""",
    "toml": """
# a comment
listen = "0.0.0.0:9443"
mender_backend = "https://mender.example.com"
mender_user = "a@b.c"
mender_pass = "hunter2-never-shown"
tls_min_version = 1.3
insecure_skip_verify = true
handshake_timeout = "5m"
allowed_paths = ["/api/devices/v1/", "/api/devices/v2/"]
""",
    "json": """
{"listen": "0.0.0.0:9443", "mender_backend": "https://mender.example.com", "mender_user": "a@b.c",
 "mender_pass": "hunter2-never-shown", "tls_min_version": 1.3, "insecure_skip_verify": true,
 "handshake_timeout": "5m", "allowed_paths": ["/api/devices/v1/", "/api/devices/v2/"], "mender_ca": null}
""",
    "hcl": """
# a comment
listen = "0.0.0.0:9443"
mender_backend = "https://mender.example.com"
mender_user = "a@b.c"
mender_pass = "hunter2-never-shown"
tls_min_version = 1.3
insecure_skip_verify = true
handshake_timeout = "5m"
allowed_paths = ["/api/devices/v1/", "/api/devices/v2/"]
mender_ca = null
""",
}


def from_file(directory: Path, name: str, content: str, **environment: str) -> Loaded:
    """What is loaded from a file of this name and content, which only its owner may read."""
    file = directory / name
    file.touch(0o600)
    file.write_text(content, encoding="utf-8")
    return load(file, environment, {})


def complaint(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    command_line: Mapping[str, object] | None = None,
    **more: Path,
) -> str:
    """The error that loading ends with; it is about something, says what to do, and tells no secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(file, LEAST if environment is None else environment, command_line or {}, **more)
    for problem in caught.value.problems:
        assert problem.subject
        assert problem.what
        assert problem.remedy, problem
    text = f"{caught.value}"
    assert SECRET not in text + repr(caught.value) + repr(caught.value.problems)
    return text


def complaint_about(directory: Path, name: str, content: str | bytes) -> str:
    """The error about a file of this name and content."""
    file = directory / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return complaint(file)


def password(loaded: Loaded) -> str:
    assert loaded.settings.mender_pass is not None
    return loaded.settings.mender_pass.get_secret_value()


# Files


@pytest.mark.parametrize("extension", [*FORMATS, "yml", "YAML"])
def test_all_formats_say_the_same(tmp_path: Path, extension: str) -> None:
    expected = Settings.model_validate(
        {
            "listen": "0.0.0.0:9443",
            "mender_backend": "https://mender.example.com",
            "mender_user": "a@b.c",
            "mender_pass": SECRET,
            "tls_min_version": "1.3",
            "insecure_skip_verify": True,
            "handshake_timeout": 300,
            "allowed_paths": ["/api/devices/v1/", "/api/devices/v2/"],
        }
    )
    content = FORMATS.get(extension, FORMATS["yaml"])
    loaded = from_file(tmp_path, f"c.{extension}", content)
    assert loaded.settings == expected
    assert loaded.warnings == ()


@pytest.mark.parametrize("secret", ["p@ss$w{o}rd", "it's", "100%", "a b#c", "ü€", "x: y", "true", "123", "$(x)", "a=b"])
@pytest.mark.parametrize("extension", FORMATS)
def test_a_secret_in_quotes_is_taken_as_it_is(tmp_path: Path, extension: str, secret: str) -> None:
    content = FORMATS[extension].replace(SECRET, secret)
    assert password(from_file(tmp_path, f"c.{extension}", content)) == secret


@given(secret=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1))
def test_json_and_yaml_carry_any_password(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    directory = tmp_path_factory.mktemp("any")
    content = {"mender_backend": BACKEND, "mender_user": "a@b.c", "mender_pass": secret}
    assert password(from_file(directory, "c.json", json.dumps(content))) == secret
    assert password(from_file(directory, "c.yaml", yaml.safe_dump(content))) == secret


def test_a_heredoc_in_hcl_is_its_text(tmp_path: Path) -> None:
    content = FORMATS["hcl"].replace(f'"{SECRET}"', "<<EOT\nsecret\nEOT")
    assert password(from_file(tmp_path, "c.hcl", content)) == "secret"


@pytest.mark.parametrize("extension", FORMATS)
def test_keys_in_files_have_no_case(tmp_path: Path, extension: str) -> None:
    content = FORMATS[extension].replace("listen", "Listen").replace("mender_user", "MENDER_USER")
    assert from_file(tmp_path, f"c.{extension}", content).settings.listen == ListenAddress("0.0.0.0", 9443)


def test_one_key_in_two_spellings_is_refused(tmp_path: Path) -> None:
    text = complaint_about(tmp_path, "c.yaml", "listen: 1\nListen: 2\n")
    assert text == f"Listen ({tmp_path}/c.yaml): is given twice\n  Keep one."


@pytest.mark.parametrize(
    ("name", "content", "key", "place"),
    [
        ("c.yaml", "debug_log: true\nlisten: 1\n'debug_log': false\n", "debug_log", "the second time in line 3"),
        ("c.yaml", "binding: {mode: warn, mode: 'off'}", "mode", "the second time in line 1"),
        ("c.yaml", "trust_anchors:\n- name: a\n  ca: a\n  ca: b\n", "ca", "the second time in line 4"),
        ("c.toml", "debug_log = true\nlisten = 1\ndebug_log = false\n", "debug_log", "the second time in line 3"),
        ("c.toml", f"mender_pass = '{SECRET}'\nmender_pass = '{SECRET}'", "mender_pass", "the second time in line 2"),
        ("c.toml", "[[trust_anchors]]\nca = 'a'\nca = 'b'\n", "ca", "the second time in line 3"),
        ("c.json", '{"debug_log": true, "listen": 1, "debug_log": false}', "debug_log", "both times at the top"),
        ("c.json", '{"trust_anchors": [{}, {"ca": "a", "ca": "b"}]}', "ca", "both times in trust_anchors[1]"),
        ("c.hcl", "debug_log = true\nlisten = 1\ndebug_log = false\n", "debug_log", "the second time in line 3"),
        ("c.hcl", "binding {\n mode = 1\n mode = 2\n}\n", "mode", "the second time in line 3"),
        ("c.hcl", 'binding = {\n mode = 1\n "mode" = 2\n}\n', "mode", "the second time in line 3"),
        ("c.hcl", "binding = {}\nbinding {}\n", "binding", "the second time in line 2"),
        ("c.hcl", "binding {}\nbinding = {}\n", "binding", "the second time in line 2"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, name: str, content: str, key: str, place: str) -> None:
    """Else the last would win, such as an insecure_skip_verify pasted below."""
    assert (
        complaint_about(tmp_path, name, content) == f"{key} ({tmp_path}/{name}): is given twice, {place}\n  Keep one."
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MTLS_TRUST_ANCHORS", '[{"name": "a", "ca": "x", "ca": "y"}]'),
        ("MTLS_BINDING", '{"mode": "off", "mode": "warn"}'),
    ],
)
def test_a_key_given_twice_in_json_text_is_refused(name: str, text: str) -> None:
    key = "mode" if "mode" in text else "ca"
    with pytest.raises(ConfigurationError, match=rf"says {key} twice"):
        load(None, {**LEAST, name: text}, {})


def test_a_key_of_yaml_may_override_one_merged_in(tmp_path: Path) -> None:
    content = (
        "binding:\n  rules:\n  - &first {certificate: subject.CN, identity: mac}\n  - <<: *first\n    identity: sn\n"
    )
    assert len(from_file(tmp_path, "c.yaml", content, **LEAST).settings.binding.rules) == 2


def test_blocks_of_hcl_may_be_repeated(tmp_path: Path) -> None:
    content = "".join(f'trust_anchors "{name}" {{\n ca = "{name}"\n mender_token = "x"\n}}\n' for name in ("a", "b"))
    anchors = from_file(tmp_path, "c.hcl", content, **LEAST).settings.anchors
    assert [anchor.name for anchor in anchors] == ["a", "b"]


def test_an_unknown_key_is_refused_with_the_likeliest(tmp_path: Path) -> None:
    text = complaint_about(tmp_path, "c.yaml", "listne: 1\nxyzzy: 2\n")
    assert f"listne ({tmp_path}/c.yaml): is not a known key\n  Did you mean listen?" in text
    assert f"xyzzy ({tmp_path}/c.yaml): is not a known key\n  Remove it." in text


@pytest.mark.parametrize("content", ["", "# nothing\n", "listen:\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, content: str) -> None:
    assert from_file(tmp_path, "c.yaml", content, **LEAST).settings.listen == ListenAddress(None, 8080)


@pytest.mark.parametrize(("name", "content"), [("c.yaml", "- listen\n"), ("c.json", "[]"), ("c.yml", "listen:8080")])
def test_a_file_must_be_a_mapping(tmp_path: Path, name: str, content: str) -> None:
    assert "is not a mapping of keys to values" in complaint_about(tmp_path, name, content)


@pytest.mark.parametrize("name", ["config", "config.ini", ".yaml"])
def test_the_extension_tells_the_format(tmp_path: Path, name: str) -> None:
    assert "has no known extension\n  Name it .yaml, .yml, .toml, .json or .hcl." in complaint_about(tmp_path, name, "")


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    text = complaint(tmp_path / "none.yaml")
    assert (
        text
        == f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n  Check the path given with --config."
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").mkdir()
    assert "cannot be read: Is a directory" in complaint(tmp_path / "c.yaml")


def test_the_default_file_is_read_if_it_is_there(tmp_path: Path) -> None:
    default = tmp_path / "config.yaml"
    assert load(None, LEAST, {}, default_file=default).settings.listen == ListenAddress(None, 8080)
    default.write_text("listen: 9443\n")
    assert load(None, LEAST, {}, default_file=default).settings.listen == ListenAddress(None, 9443)


def test_the_default_file_is_config_yaml_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("listen: 9443\n")
    assert load(None, LEAST, {}).settings.listen == ListenAddress(None, 9443)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_a_default_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    default = tmp_path / "config.yaml"
    default.write_text("listen: 1\n")
    default.chmod(mode)
    assert load(None, LEAST, {}, default_file=default).settings.listen.port == 1
    default.chmod(mode | 0o002)
    text = complaint(None, default_file=default)
    assert text.startswith(f"{default}: lies in the current directory, but belongs to another user or can be written")
    assert load(default, LEAST, {}).settings.listen.port == 1  # named, it is the user's own choice


def test_a_default_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = tmp_path / "config.yaml"
    default.write_text("envoy_path: /tmp/evil\n")
    default.chmod(0o600)
    owner = default.stat().st_uid
    if owner == 0:  # root's files are trusted by everybody, so this one is given away
        os.chown(default, 65534, 65534)
    else:
        monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    assert "belongs to another user" in complaint(None, default_file=default)


def test_a_file_with_a_secret_that_everybody_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"mender_backend: {BACKEND}\nmender_user: a@b.c\nmender_pass: x\n")
    file.chmod(0o644)
    assert load(file, {}, {}).warnings == (f"{file} holds a secret and may be read by everybody: chmod 0600 it",)
    file.write_text("listen: 1\n")
    assert load(file, LEAST, {}).warnings == ()


def test_a_named_file_stands_in_for_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("not: known\n")
    (tmp_path / "other.yaml").write_text("listen: 1\n")
    loaded = load(tmp_path / "other.yaml", LEAST, {}, default_file=tmp_path / "config.yaml")
    assert loaded.settings.listen == ListenAddress(None, 1)


# What does not parse is placed, never quoted: it may be the password


@pytest.mark.parametrize(
    "line",
    [
        f"mender_pass: *{SECRET}",
        f"mender_pass: !{SECRET} x",
        f"mender_pass: !{SECRET}!x y",
        f'mender_pass: "{SECRET}\\q"',
        f'mender_pass: "{SECRET}',
        f"mender_pass: '{SECRET}",
        f"mender_pass: @{SECRET}",
        f"mender_pass: %{SECRET}",
        f"mender_pass: {{{SECRET}",
        f"mender_pass: [{SECRET}",
        f"mender_pass: {SECRET}: x",
        f"mender_pass: &x {SECRET}\nmender_user: &x a",
        f"mender_pass: |9{SECRET}\n x",
        f"\tmender_pass: {SECRET}",
        f"--- {SECRET}\n--- {SECRET}",
        f"mender_pass: {SECRET}\x00",
    ],
)
def test_broken_yaml_is_placed_and_not_quoted(tmp_path: Path, line: str) -> None:
    text = complaint_about(tmp_path, "c.yaml", f"listen: 1\n{line}\n")
    assert text.startswith(f"{tmp_path}/c.yaml: is not valid YAML: ")
    assert "line " in text or "characters that YAML does not allow" in text
    assert "hunter2" not in text


def test_a_value_that_yaml_takes_for_an_alias_is_explained(tmp_path: Path) -> None:
    text = complaint_about(tmp_path, "c.yaml", f"listen: 1\nmender_pass: *{SECRET}\n")
    assert "line 2, column 14: a value that begins with * must be in quotes" in text


def test_broken_indentation_is_explained(tmp_path: Path) -> None:
    text = complaint_about(tmp_path, "c.yaml", "listen: 1\n  debug_log: true\n")
    assert "line 2, column 12: mapping values are not allowed here" in text
    text = complaint_about(tmp_path, "c.yaml", "allowed_paths:\n  - a\n  b: 1\n")
    assert "expected <block end>" in text


@pytest.mark.parametrize(
    "line",
    [
        f"mender_pass = {SECRET}",
        f"mender_pass: {SECRET}",
        f'mender_pass = "{SECRET}',
        f'mender_pass = "{SECRET}\\q"',
        f'mender_pass = "{SECRET}" "x"',
    ],
)
def test_broken_toml_is_placed_and_not_quoted(tmp_path: Path, line: str) -> None:
    text = complaint_about(tmp_path, "c.toml", f"listen = 1\n{line}\n")
    assert text.startswith(f"{tmp_path}/c.toml: is not valid TOML: ")
    assert "line " in text or "at end of document" in text


@pytest.mark.parametrize(
    "content",
    [
        "",
        f'{{"mender_pass": {SECRET}}}',
        f'{{"mender_pass": "{SECRET}',
        f'{{"mender_pass": "{SECRET}\\q"}}',
        f'{{"mender_pass": "{SECRET}\n"}}',
        f'{{"mender_pass": "{SECRET}"}} x',
        f"{{'mender_pass': '{SECRET}'}}",
    ],
)
def test_broken_json_is_placed_and_not_quoted(tmp_path: Path, content: str) -> None:
    text = complaint_about(tmp_path, "c.json", content)
    assert text.startswith(f"{tmp_path}/c.json: is not valid JSON: line ")


@pytest.mark.parametrize(
    "line",
    [
        f'mender_pass = "{SECRET}',
        f"mender_pass = '{SECRET}'",
        f"mender_pass: {SECRET}",
        f'mender_pass = "%{{{SECRET}"',
        f'mender_pass = "{SECRET}" "x"',
        f"mender_pass = <<X\n{SECRET}\n",
    ],
)
def test_broken_hcl_is_placed_and_not_quoted(tmp_path: Path, line: str) -> None:
    text = complaint_about(tmp_path, "c.hcl", f"listen = 1\n{line}\n")
    assert text.startswith(f"{tmp_path}/c.hcl: is not valid HCL: ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.yaml", "mender_user: 2024-13-45"),
        ("c.yaml", "mender_user: 0x_"),
        ("c.yaml", f"mender_pass: !!float {SECRET}"),
        ("c.yaml", "{" * 3000),
        ("c.json", "[" * 100_000),
        ("c.json", f'{{"listen": {"9" * 5000}}}'),
        ("c.toml", f"listen = {'9' * 5000}"),
        ("c.toml", f"listen = {'[' * 5000}"),
    ],
)
def test_what_the_parsers_themselves_stumble_over_is_an_error_too(tmp_path: Path, name: str, content: str) -> None:
    assert complaint_about(tmp_path, name, content).startswith(f"{tmp_path}/{name}: ")


@pytest.mark.parametrize("extension", FORMATS)
def test_what_is_no_utf_8_is_refused(tmp_path: Path, extension: str) -> None:
    text = complaint_about(tmp_path, f"c.{extension}", f"mender_pass: {SECRET}\xff".encode("latin-1"))
    assert text == f"{tmp_path}/c.{extension}: is not UTF-8 text\n  Save it as UTF-8."


# The environment


def test_the_environment_is_enough(tmp_path: Path) -> None:
    environment = {
        **LEAST,
        "MTLS_LISTEN": "9443",
        "MTLS_DEBUG_LOG": "true",
        "MTLS_TLS_MIN_VERSION": "1.3",
        "MTLS_ALLOWED_PATHS": "/api/devices/v1/,/api/devices/v2/",
        "MTLS_SHUTDOWN_GRACE": "1m",
        "PATH": "/bin",
    }
    loaded = load(None, environment, {}, default_file=tmp_path / "none")
    assert loaded.settings.listen == ListenAddress(None, 9443)
    assert loaded.settings.debug_log
    assert loaded.settings.tls_min_version == "1.3"
    assert loaded.settings.allowed_paths == ("/api/devices/v1/", "/api/devices/v2/")
    assert loaded.settings.shutdown_grace == 60
    assert password(loaded) == SECRET
    assert loaded.warnings == ()


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("on", True), ("0", False), ("False", False)])
def test_a_switch_in_the_environment(text: str, value: bool) -> None:
    assert load(None, {**LEAST, "MTLS_DEBUG_LOG": text}, {}).settings.debug_log is value


TEXTS = {
    "mender_user",
    "mender_pass",
    "mender_ca",
    "server_cert",
    "server_key",
    "tenant_ca_pem",
    "audit_log",
    "state_dir",
    "envoy_path",
}


@pytest.mark.parametrize("key", [key for key in Settings.model_fields if key != "mender_token"])
def test_every_setting_has_an_environment_variable(key: str) -> None:
    environment = {**LEAST, f"MTLS_{key.upper()}": "odd"}
    if key in TEXTS:
        value = getattr(load(None, environment, {}).settings, key)
        assert (value.get_secret_value() if key in SECRET_KEYS else str(value)) == "odd"
    else:
        assert f"{key} (environment MTLS_{key.upper()})" in complaint(None, environment)


def test_an_unknown_variable_is_a_warning_with_the_likeliest() -> None:
    environment = {**LEAST, "MTLS_LISTNE": SECRET, "MTLS_SERVICE_PORT_8080_TCP_ADDR": "10.0.0.1"}
    warnings = load(None, environment, {}).warnings
    assert warnings == (
        "environment MTLS_LISTNE is not a setting and is ignored; did you mean MTLS_LISTEN?",
        "environment MTLS_SERVICE_PORT_8080_TCP_ADDR is not a setting and is ignored",
    )


def test_an_empty_variable_counts_as_not_given(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("listen: 9443\n")
    loaded = load(tmp_path / "c.yaml", {**LEAST, "MTLS_LISTEN": "", "MTLS_UNKNOWN": "", "MTLS_MENDER_TOKEN": ""}, {})
    assert loaded.settings.listen == ListenAddress(None, 9443)
    assert loaded.warnings == ()


# Precedence


def test_the_stronger_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("listen: 1\nhealth_listen: 1\nadmin_listen: 1\n")
    environment = {**LEAST, "MTLS_HEALTH_LISTEN": "2", "MTLS_ADMIN_LISTEN": "2"}
    settings = load(file, environment, {"admin_listen": "3"}).settings
    assert (settings.listen.port, settings.health_listen.port, settings.admin_listen.port) == (1, 2, 3)


def test_a_switch_can_be_turned_off_on_the_command_line() -> None:
    assert not load(None, {**LEAST, "MTLS_DEBUG_LOG": "1"}, {"debug_log": False}).settings.debug_log


@pytest.mark.parametrize("stronger", ["mender_pass", "mender_pass_file"])
def test_a_secret_and_its_file_override_each_other(tmp_path: Path, stronger: str) -> None:
    (tmp_path / "weak").write_text("weak")
    (tmp_path / "strong").write_text("strong")
    weaker = f"mender_pass_file: {tmp_path}/weak" if stronger == "mender_pass" else "mender_pass: weak"
    (tmp_path / "c.yaml").write_text(f"{weaker}\nmender_user: a@b.c\nmender_backend: {BACKEND}\n")
    value = "strong" if stronger == "mender_pass" else f"{tmp_path}/strong"
    assert password(load(tmp_path / "c.yaml", {f"MTLS_{stronger.upper()}": value}, {})) == "strong"


# Secrets in files of their own


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        (" se\tcret ", " se\tcret "),
        ("ü\n", "ü"),
    ],
)
def test_a_secret_file_is_read_without_its_line_end(tmp_path: Path, content: str, secret: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    environment = {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_MENDER_USER": "u", "MTLS_MENDER_PASS_FILE": str(file)}
    password = load(None, environment, {}).settings.mender_pass
    assert password is not None
    assert password.get_secret_value() == secret


@pytest.mark.parametrize("content", ["abc\ndef", "two words", "\u00fc", "tab\t"])
def test_a_token_that_no_header_can_carry_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    text = complaint(None, {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_MENDER_TOKEN_FILE": str(file)})
    assert text.startswith(f"mender_token (environment MTLS_MENDER_TOKEN_FILE, file {file}): is no token")
    assert content not in text


def test_yaml_reads_what_is_documented(tmp_path: Path) -> None:
    """A bare `off` is false to YAML, and an address in brackets a list."""
    file = tmp_path / "c.yaml"
    file.write_text(f'mender_backend: {BACKEND}\nmender_token: x\naccess_log: off\nlisten: "[::]:8080"\n')
    settings = load(file, {}, {}).settings
    assert settings.access_log == "off"
    assert settings.listen == ListenAddress("::", 8080)
    file.write_text("listen: [::]:8080\n")
    assert 'must be in quotes: "[::]:8080"' in complaint(file)


def test_a_typing_error_in_the_environment_is_told_with_what_is_missing() -> None:
    text = complaint(None, {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_MENDER_USER": "u", "MTLS_MENDER_PASSWORD": "hunter2"})
    assert "mender_pass (" in text or "mender_pass:" in text
    assert "did you mean MTLS_MENDER_PASS?" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("content", ["", "\n", "\r\n"])
def test_an_empty_secret_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    text = complaint(None, {**LEAST, "MTLS_MENDER_PASS": "", "MTLS_MENDER_PASS_FILE": str(file)})
    assert text.startswith(f"mender_pass (environment MTLS_MENDER_PASS_FILE, file {file}): is empty")


def test_a_secret_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    text = complaint(None, {**LEAST, "MTLS_MENDER_PASS": ""}, {"mender_pass_file": str(tmp_path / "none")})
    assert text.startswith(
        f"mender_pass_file (command line --mender-pass-file): the file {tmp_path}/none cannot be read: "
        "No such file or directory"
    )
    (tmp_path / "binary").write_bytes(b"\xff")
    text = complaint(None, {**LEAST, "MTLS_MENDER_PASS": ""}, {"mender_pass_file": str(tmp_path / "binary")})
    assert "cannot be read: it is not UTF-8 text" in text
    assert "cannot be read: it is no path" in complaint(None, None, {"mender_pass_file": "\x00"})


def test_a_secret_and_its_file_from_one_source_are_refused(tmp_path: Path) -> None:
    text = complaint(None, {**LEAST, "MTLS_MENDER_PASS_FILE": str(tmp_path / "x")})
    assert text == "mender_pass and mender_pass_file (environment MTLS_MENDER_PASS): are both set\n  Keep one of them."
    content = f"mender_token: {SECRET}\nmender_token_file: /x\n"
    assert "mender_token and mender_token_file" in complaint_about(tmp_path, "c.yaml", content)


# Errors name the key, where its value came from, and what to do


def test_what_is_missing_is_named_with_both_ways_to_set_it() -> None:
    text = complaint(None, {})
    assert "mender_backend: is not set\n  Set MTLS_MENDER_BACKEND, or mender_backend in the configuration file." in text


def test_missing_credentials_are_named() -> None:
    text = complaint(None, {"MTLS_MENDER_BACKEND": BACKEND})
    assert text.startswith("mender_user: is not set, nor is mender_token\n  Set mender_user and mender_pass")
    text = complaint(None, {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_MENDER_USER": "a@b.c"})
    assert text.startswith("mender_pass: is not set, though mender_user is")
    text = complaint(None, {**LEAST, "MTLS_MENDER_TOKEN": SECRET})
    assert text.startswith("mender_token (environment MTLS_MENDER_TOKEN): is set together with mender_user")


def test_an_empty_user_is_none(tmp_path: Path) -> None:
    content = f"mender_backend: {BACKEND}\nmender_user: ''\nmender_pass: {SECRET}\n"
    (tmp_path / "c.yaml").write_text(content)
    text = complaint(tmp_path / "c.yaml", {})
    assert text == f"mender_user ({tmp_path}/c.yaml): is not set, though mender_pass is\n  Set mender_user."


@pytest.mark.parametrize("value", ["''", '""'])
def test_an_empty_secret_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "c.yaml").write_text(f"mender_backend: {BACKEND}\nmender_user: a@b.c\nmender_pass: {value}\n")
    assert complaint(tmp_path / "c.yaml", {}).startswith(f"mender_pass ({tmp_path}/c.yaml): is empty")


def test_a_wrong_value_is_told_with_its_origin_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("listen: localhost:80\n")
    text = complaint(file, {**LEAST, "MTLS_HANDSHAKE_TIMEOUT": "soon"}, {"tls_min_version": "1.1"})
    assert (
        f"listen ({file}): 'localhost:80' holds no IP address before the port\n"
        "  Write 8080, 0.0.0.0:8080 or [::]:8080" in text
    )
    assert (
        "handshake_timeout (environment MTLS_HANDSHAKE_TIMEOUT): 'soon' is not a duration\n"
        "  Write seconds, or 500ms, 30s, 5m, 1h" in text
    )
    assert (
        "tls_min_version (command line --tls-min-version): '1.1' is not right: Input should be '1.2' or '1.3'\n"
        "  tls_min_version: Lowest TLS version a device may use: 1.2 or 1.3." in text
    )


@pytest.mark.parametrize("value", ["12345", "true", f"[{SECRET}]", f"{{{SECRET}: 1}}", "2024-01-01"])
def test_a_secret_of_the_wrong_kind_is_not_told(tmp_path: Path, value: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"mender_pass: {value}\nmender_backend: {BACKEND}\nmender_user: a@b.c\n")
    text = complaint(file, {})
    assert text.startswith(f"mender_pass ({file}): is not text\n  Write it in quotes.")
    assert value not in text


@pytest.mark.parametrize(
    "url",
    [f"https://user:{SECRET}@mender", f"user:{SECRET}@mender", f"https://user:{SECRET}/x@mender", f"//{SECRET}@mender"],
)
def test_a_password_in_the_url_is_not_told(url: str) -> None:
    text = complaint(None, {**LEAST, "MTLS_MENDER_BACKEND": url})
    assert text.startswith("mender_backend (environment MTLS_MENDER_BACKEND): '...@mender' ")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {"MTLS_LISTEN": "x", "MTLS_ADMIN_LISTEN": "y"}, {})
    assert {problem.subject.split(" ")[0] for problem in caught.value.problems} == {
        "listen",
        "admin_listen",
        "mender_backend",
    }


def test_a_given_value_has_no_representation() -> None:
    assert SECRET not in repr(Given(SECRET, "environment MTLS_MENDER_PASS"))
    assert SECRET not in repr(load(None, LEAST, {}))


# Trust anchors

ANCHORS = {
    "yaml": """
trust_anchors:
  - {name: plant-1, ca: /1.pem, mender_token_file: FILE}
  - {name: plant-2, ca: /2.pem, mender_user: a@b.c, mender_pass: hunter2-never-shown, rotation: never}
auth_rate_per_certificate: off
adopt_until: 2026-12-31
""",
    "toml": """
auth_rate_per_certificate = "off"
adopt_until = 2026-12-31
[[trust_anchors]]
name = "plant-1"
ca = "/1.pem"
mender_token_file = "FILE"
[[trust_anchors]]
name = "plant-2"
ca = "/2.pem"
mender_user = "a@b.c"
mender_pass = "hunter2-never-shown"
rotation = "never"
""",
    "json": """
{"trust_anchors": [
  {"name": "plant-1", "ca": "/1.pem", "mender_token_file": "FILE"},
  {"name": "plant-2", "ca": "/2.pem", "mender_user": "a@b.c", "mender_pass": "hunter2-never-shown", "rotation": "never"}
 ], "auth_rate_per_certificate": "off", "adopt_until": "2026-12-31"}
""",
    "hcl": """
trust_anchors "plant-1" {
  ca = "/1.pem"
  mender_token_file = "FILE"
}
trust_anchors "plant-2" {
  ca = "/2.pem"
  mender_user = "a@b.c"
  mender_pass = "hunter2-never-shown"
  rotation = "never"
}
auth_rate_per_certificate = "off"
adopt_until = "2026-12-31"
""",
}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("t-1\n")
    return file


@pytest.mark.parametrize("extension", ANCHORS)
def test_all_formats_say_the_same_of_trust_anchors(tmp_path: Path, token_file: Path, extension: str) -> None:
    content = ANCHORS[extension].replace("FILE", str(token_file))
    loaded = from_file(tmp_path, f"c.{extension}", content, MTLS_MENDER_BACKEND=BACKEND)
    anchors = [
        {"name": "plant-1", "ca": "/1.pem", "mender_token": "t-1"},
        {"name": "plant-2", "ca": "/2.pem", "mender_user": "a@b.c", "mender_pass": SECRET, "rotation": "never"},
    ]
    rest = {"mender_backend": BACKEND, "auth_rate_per_certificate": "off", "adopt_until": "2026-12-31"}
    assert loaded.settings == Settings.model_validate({"trust_anchors": anchors, **rest})
    assert loaded.warnings == ()


def test_a_list_in_hcl_is_the_same_as_its_blocks(tmp_path: Path) -> None:
    content = 'trust_anchors = [{ name = "a", ca = "/a.pem" }, { name = "b", ca = "/b.pem" }]'
    loaded = from_file(tmp_path, "c.hcl", content, **LEAST)
    assert [anchor.name for anchor in loaded.settings.anchors] == ["a", "b"]


def test_trust_anchors_in_the_environment_and_on_the_command_line_are_json(token_file: Path) -> None:
    text = json.dumps([{"name": "a", "ca": "/a.pem", "mender_token_file": str(token_file)}])
    for loaded in (
        load(None, {"MTLS_MENDER_BACKEND": BACKEND, "MTLS_TRUST_ANCHORS": text}, {}),
        load(None, {"MTLS_MENDER_BACKEND": BACKEND}, {"trust_anchors": text}),
    ):
        (anchor,) = loaded.settings.anchors
        assert anchor.credentials.token is not None
        assert anchor.credentials.token.get_secret_value() == "t-1"


def test_no_secret_stands_on_the_command_line() -> None:
    text = json.dumps([{"name": "a", "ca": "/a.pem", "mender_user": "u", "mender_pass": SECRET}])
    told = complaint(command_line={"trust_anchors": text})
    assert told.startswith("trust_anchors (command line --trust-anchors): holds a password or token")
    assert "mender_pass_file" in told


def test_a_file_with_an_anchors_secret_that_everybody_may_read_is_warned_of(tmp_path: Path, token_file: Path) -> None:
    file = tmp_path / "c.yaml"
    for secret, warned in ({"mender_token": SECRET}, True), ({"mender_token_file": str(token_file)}, False):
        file.write_text(yaml.safe_dump({"trust_anchors": [{"name": "a", "ca": "/a.pem", **secret}]}))
        file.chmod(0o644)
        assert bool(load(file, {"MTLS_MENDER_BACKEND": BACKEND}, {}).warnings) is warned


@pytest.mark.parametrize(
    ("anchor", "subject", "what"),
    [
        ({"ca": "/a.pem"}, "number 2, name", "is not set"),
        ({"name": "b"}, "b, ca", "is not set"),
        ({"name": "b", "ca": "/b", "caa": SECRET}, "b, caa", "is not a known key"),
        ({"name": "b", "ca": "/b", "rotation": SECRET}, "b, rotation", "is not right"),
        ({"name": "b", "ca": "/b", "mender_token": f"{SECRET} x"}, "b, mender_token", "is no token"),
        ({"name": "b", "ca": "/b", "mender_token": ""}, "b, mender_token", "is empty"),
        ({"name": "b", "ca": "/b", "mender_pass": [SECRET]}, "b, mender_pass", "is not right"),
        (
            {"name": "b", "ca": "/b", "mender_user": "u", "mender_pass_file": "/none"},
            "b, mender_pass_file",
            "cannot be",
        ),
        ({"name": "b", "ca": "/b", "mender_pass": SECRET, "mender_pass_file": "/none"}, "b, mender_pass", "both set"),
        ({"name": "b", "ca": "/b", "mender_user": "u"}, "b, mender_pass", "is not set, though"),
        ({"name": "a", "ca": "/b"}, "a", "stands there twice"),
    ],
)
def test_an_error_names_anchor_key_and_file(tmp_path: Path, anchor: dict[str, object], subject: str, what: str) -> None:
    content = yaml.safe_dump({"trust_anchors": [{"name": "a", "ca": "/a.pem"}, anchor]})
    told = complaint_about(tmp_path, "c.yaml", content)
    assert f"trust_anchors, {subject} ({tmp_path / 'c.yaml'}): " in told
    assert what in told


@pytest.mark.parametrize("content", ["trust_anchors: hunter2-never-shown", "trust_anchors: {a: hunter2-never-shown}"])
def test_what_is_no_list_of_anchors_is_told_without_quoting_it(tmp_path: Path, content: str) -> None:
    assert "Write [{" in complaint_about(tmp_path, "c.yaml", content)


def test_tenant_ca_pem_beside_trust_anchors_is_told_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("trust_anchors: [{name: a, ca: /a.pem}]")
    told = complaint(file, {**LEAST, "MTLS_TENANT_CA_PEM": "/ca.pem"})
    assert told.startswith("tenant_ca_pem (environment MTLS_TENANT_CA_PEM): is set together with trust_anchors")


def test_the_upstream_alone(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("mender_backend: https://file.example\n")
    environment = {"MTLS_MENDER_BACKEND": "https://environment.example"}
    found = [
        load_backend(None, {}, {}),
        load_backend(file, {}, {}),
        load_backend(file, environment, {}),
        load_backend(file, environment, {"mender_backend": "https://option.example"}),
    ]
    assert [backend and backend.host for backend in found] == [
        None, "file.example", "environment.example", "option.example",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"environment MTLS_MENDER_BACKEND.* is not a URL"):
        load_backend(None, {"MTLS_MENDER_BACKEND": "x"}, {})
