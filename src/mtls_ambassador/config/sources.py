"""Where settings come from: defaults, a file, the environment, the command line; weakest first.

The shell around the pure model: it reads the files, remembers where each value came from, and words the errors.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mtls_ambassador.config.anchors import ANCHOR_SECRETS, TrustAnchor, parse_trust_anchors
from mtls_ambassador.config.binding_form import MalformedBinding
from mtls_ambassador.config.errors import ConfigurationError, Problem
from mtls_ambassador.config.formats import read_file
from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.config.values import BackendUrl, parse_backend

ENVIRONMENT_PREFIX = "MTLS_"
_ANCHORS = "trust_anchors"
_Model = TypeVar("_Model", bound=BaseModel)
KNOWN_KEYS = (*Settings.model_fields, *(f"{key}_file" for key in sorted(SECRET_KEYS)))


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody gave it."""

    value: object = field(repr=False)
    """It may be a secret."""
    origin: str
    """Where: `config.yaml`, `environment MTLS_LISTEN`, `command line --listen`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and what is odd about how they were given."""

    settings: Settings
    warnings: tuple[str, ...]


def load(
    config_file: Path | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, object],
    *,
    default_file: Path = Path("config.yaml"),
) -> Loaded:
    """Read all sources and check them together.

    Args:
        config_file: The file the user named (it must exist), or None: `default_file` if there is one.
        environment: The process's environment; only `MTLS_*` is looked at, an empty value counts as not given.
        command_line: Key to value, of the options that were given.
        default_file: What is read when no file was named.

    Raises:
        ConfigurationError: with every problem found.
    """
    config_file = chosen_file(config_file, default_file)
    given: dict[str, Given] = {}
    if config_file is not None:
        _merge(given, _from_file(config_file))
    from_environment, unknown = _from_environment(environment)
    warnings = unknown
    if config_file is not None and _holds_secret(given) and config_file.stat().st_mode & stat.S_IROTH:
        warnings = (*warnings, f"{config_file} holds a secret and may be read by everybody: chmod 0600 it")
    _merge(given, from_environment)
    options = {key: Given(value, f"command line --{key.replace('_', '-')}") for key, value in command_line.items()}
    if _ANCHORS in options and _holds_secret({_ANCHORS: options[_ANCHORS]}):
        origin = options[_ANCHORS].origin
        what = "holds a password or token, and everybody on this machine can read a command line"
        remedy = "Name a file instead: mender_pass_file or mender_token_file."
        raise ConfigurationError((Problem(f"{_ANCHORS} ({origin})", what, remedy),))
    _merge(given, options)
    _read_secret_files(given)
    try:
        return Loaded(validate(given, Settings), warnings)
    except ConfigurationError as error:
        # What is missing may be there under a name with a typing error.
        raise ConfigurationError(
            (*error.problems, *(Problem(text, "look at this", "It may be what is missing above.") for text in unknown))
        ) from error


def load_backend(
    config_file: Path | None, environment: Mapping[str, str], command_line: Mapping[str, object]
) -> BackendUrl | None:
    """The edge's upstream alone, for who has to know it and runs no edge; None where it is not set.

    Args:
        config_file: The file the user named, or None.
        environment: As for `load`.
        command_line: As for `load`.

    Raises:
        ConfigurationError: the file cannot be read, or the value is no URL.
    """
    given = gather(("mender_backend",), config_file, environment, command_line)
    entry = given.get("mender_backend")
    if entry is None:
        return None
    try:
        return parse_backend(entry.value)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        subject = f"mender_backend ({entry.origin})"
        shown = _shown("mender_backend", entry.value)
        raise ConfigurationError(
            (Problem(subject, f"{shown} {what}", f"{remedy[:1].upper()}{remedy[1:]}."),)
        ) from error


def gather(
    keys: Collection[str], config_file: Path | None, environment: Mapping[str, str], command_line: Mapping[str, object]
) -> dict[str, Given]:
    """The strongest value of each of these keys that is given, unchecked; files of secrets among them are read.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    given = dict[str, Given]()
    for source in (
        _from_file(config_file) if config_file is not None else {},
        _from_environment(environment)[0],
        {key: Given(value, f"command line --{key.replace('_', '-')}") for key, value in command_line.items()},
    ):
        _merge(given, {key: source[key] for key in keys if key in source})
    _read_secret_files(given)
    return given


def chosen_file(named: Path | None, default: Path) -> Path | None:
    """The configuration file to read: the one the user named, else the default one if it is there.

    Raises:
        ConfigurationError: the default one is not to be trusted.
    """
    if named is not None or not default.exists():
        return named
    _require_trustworthy(default)
    return default


def _require_trustworthy(path: Path) -> None:
    """Refuse a default file that somebody else put into the directory where we happen to be started.

    It could name an `envoy_path` to execute. A file named with --config is the user's own choice.
    """
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            (
                Problem(
                    str(path.absolute()),
                    "lies in the current directory, but belongs to another user or can be written by everybody",
                    f"Start elsewhere, mend its owner and mode, or name it if you trust it: --config {path}.",
                ),
            )
        )


def _merge(weaker: dict[str, Given], stronger: Mapping[str, Given]) -> None:
    """Let `stronger` override, where `x` and `x_file` are two ways to say one thing."""
    for key in SECRET_KEYS:
        both = [stronger[name] for name in (key, f"{key}_file") if name in stronger]
        if len(both) == 2:
            raise ConfigurationError(
                (Problem(f"{key} and {key}_file ({both[0].origin})", "are both set", "Keep one of them."),)
            )
        if both:
            weaker.pop(key, None)
            weaker.pop(f"{key}_file", None)
    weaker.update(stronger)


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Given], tuple[str, ...]]:
    given: dict[str, Given] = {}
    warnings: list[str] = []
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or value == "":
            continue
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key in KNOWN_KEYS:
            given[key] = Given(value, f"environment {name}")
        else:
            # Not an error: Kubernetes puts MTLS_..._PORT of a service there, and people export their own names.
            warnings.append(f"environment {name} is not a setting and is ignored{_nearest(key, 'environment')}")
    return given, tuple(warnings)


def _from_file(path: Path) -> dict[str, Given]:
    content = read_file(path)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            (Problem(str(path), "is not a mapping of keys to values", "Write lines such as `listen: 8080`."),)
        )
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    for raw_key, value in content.items():
        key = str(raw_key).lower()  # the original read its keys without regard to case
        if key not in KNOWN_KEYS:
            hint = _nearest(key, "file").removeprefix("; ")
            remedy = f"{hint[:1].upper()}{hint[1:]}" if hint else "Remove it."
            problems.append(Problem(f"{raw_key} ({path})", "is not a known key", remedy))
        elif key in given:
            problems.append(Problem(f"{raw_key} ({path})", "is given twice", "Keep one."))
        elif value is not None:
            given[key] = Given(value, str(path))
    if problems:
        raise ConfigurationError(tuple(problems))
    return given


def _nearest(key: str, where: str) -> str:
    matches = difflib.get_close_matches(key, KNOWN_KEYS, n=1, cutoff=0.6)
    if not matches:
        return ""
    name = f"{ENVIRONMENT_PREFIX}{matches[0].upper()}" if where == "environment" else matches[0]
    return f"; did you mean {name}?"


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or "I/O error" if isinstance(error, OSError) else "it is no path"


def _holds_secret(given: Mapping[str, Given]) -> bool:
    """Whether there is a password or token among these values, not only the name of a file with one."""
    anchors = _anchors(given[_ANCHORS]) if _ANCHORS in given else []
    return bool(SECRET_KEYS & given.keys()) or any(ANCHOR_SECRETS & anchor.keys() for anchor in anchors)


def _anchors(entry: Given) -> list[dict[str, Any]]:
    try:
        return parse_trust_anchors(entry.value)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        problem = Problem(f"{_ANCHORS} ({entry.origin})", what, f"{remedy[:1].upper()}{remedy[1:]}")
        raise ConfigurationError((problem,)) from None


def _read_secret_files(given: dict[str, Given]) -> None:
    """Put the content of secret files in the place of their names, inside trust anchors too."""
    for key in sorted(SECRET_KEYS):
        entry = given.pop(f"{key}_file", None)
        if entry is not None:
            text = _secret(f"{key}_file ({entry.origin})", entry.value)
            given[key] = Given(text, f"{entry.origin}, file {entry.value}")
    if _ANCHORS not in given:
        return
    origin = given[_ANCHORS].origin
    anchors = _anchors(given[_ANCHORS])
    problems: list[Problem] = []
    for index, anchor in enumerate(anchors):
        for key in sorted(ANCHOR_SECRETS):
            subject = f"{_ANCHORS}, {_anchor_name(anchors, index)}, {key}"
            try:
                if f"{key}_file" in anchor:
                    if key in anchor:
                        both = Problem(f"{subject} ({origin})", f"and {key}_file are both set", "Keep one of them.")
                        raise ConfigurationError((both,))
                    anchor[key] = _secret(f"{subject}_file ({origin})", anchor.pop(f"{key}_file"))
                if anchor.get(key) == "":
                    raise ConfigurationError((_empty(f"{subject} ({origin})"),))
            except ConfigurationError as error:
                problems += error.problems
    if problems:
        raise ConfigurationError(tuple(problems))
    given[_ANCHORS] = Given(anchors, origin)


def _secret(subject: str, name: object) -> str:
    path = Path(str(name))
    try:
        # Trailing newlines are the editor's, not the secret's.
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else _reason(error)
        what = f"the file {path} cannot be read: {reason}"
        remedy = "Check the path, and that the user the edge runs as may read it."
        raise ConfigurationError((Problem(subject, what, remedy),)) from error


def _empty(subject: str) -> Problem:
    return Problem(subject, "is empty", "Write the secret into it, or leave it out.")


def _anchor_name(anchors: list[dict[str, Any]], index: int) -> str:
    """What errors call an anchor: its name, or its place in the list."""
    name = anchors[index].get("name")
    return name if isinstance(name, str) and name else f"number {index + 1}"


def validate(given: Mapping[str, Given], model: type[_Model]) -> _Model:
    """Check values together.

    Args:
        given: By key.
        model: Settings, or some of them under the same names.

    Raises:
        ConfigurationError: with every problem found.
    """
    values = {key: entry.value for key, entry in given.items()}
    problems = [
        _empty(f"{key} ({given[key].origin})") for key in sorted(SECRET_KEYS & values.keys()) if values[key] == ""
    ]
    if problems:
        raise ConfigurationError(tuple(problems))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(
            tuple(problem for detail in error.errors() for problem in _problems(detail, given))
        ) from None


def _problems(detail: Any, given: Mapping[str, Given]) -> tuple[Problem, ...]:
    fault = detail.get("ctx", {}).get("error")
    if not isinstance(fault, MalformedBinding):
        return (_problem(detail, given),)
    first, *inner = detail["loc"]
    path = str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
    return tuple(
        Problem(f"{path}{'.' if place else ''}{place} ({given[str(first)].origin})", what, remedy)
        for place, what, remedy in fault.faults
    )


def _problem(detail: Any, given: Mapping[str, Given]) -> Problem:
    """Word one of pydantic's findings; a secret's value is never repeated."""
    if not detail["loc"]:
        key, what, remedy = str(detail["ctx"]["error"]).split("|")
        source = given.get(key.partition(",")[0])
        return Problem(f"{key} ({source.origin})" if source else key, what, remedy)
    key = str(detail["loc"][0])
    if key == _ANCHORS and len(detail["loc"]) > 1:
        return _anchor_problem(detail, given[key])
    description = f"{key}: {Settings.model_fields[key].description}"
    if detail["type"] == "missing":
        name = f"{ENVIRONMENT_PREFIX}{key.upper()}"
        return Problem(key, "is not set", f"Set {name}, or {key} in the configuration file. {description}")
    origin = given[key].origin if key in given else "default"
    shown = f"{_shown(key, given[key].value)} " if key in given and key not in SECRET_KEYS else ""
    if detail["type"] == "value_error":
        what, _, remedy = str(detail["ctx"]["error"]).partition("; ")
        return Problem(
            f"{key} ({origin})",
            f"{shown}{what}",
            f"{remedy[:1].upper()}{remedy[1:]}" if remedy else description,
        )
    if detail["type"] == "string_type":
        return Problem(f"{key} ({origin})", f"{shown}is not text", f"Write it in quotes. {description}")
    return Problem(f"{key} ({origin})", f"{shown}is not right: {detail['msg']}", description)


def _anchor_problem(detail: Any, entry: Given) -> Problem:
    """The same inside a trust anchor, whose values are never repeated."""
    index, key = int(detail["loc"][1]), str(detail["loc"][2])
    subject = f"{_ANCHORS}, {_anchor_name(_anchors(entry), index)}, {key} ({entry.origin})"
    if detail["type"] == "extra_forbidden":
        names = [*TrustAnchor.model_fields, *(f"{secret}_file" for secret in sorted(ANCHOR_SECRETS))]
        return Problem(subject, "is not a known key", f"An anchor has these: {', '.join(names)}.")
    description = str(TrustAnchor.model_fields[key].description)
    if detail["type"] == "missing":
        return Problem(subject, "is not set", description)
    if detail["type"] == "value_error":
        what, _, remedy = str(detail["ctx"]["error"]).partition("; ")
        return Problem(subject, what, f"{remedy[:1].upper()}{remedy[1:]}")
    return Problem(subject, f"is not right: {detail['msg']}", description)


def _shown(key: str, value: object) -> str:
    """A value as an error quotes it; of a URL only what comes after a user name and password."""
    text = str(value)
    if key == "mender_backend" and "@" in text:
        return repr(f"...@{text.rpartition('@')[2]}")
    return repr(value)
