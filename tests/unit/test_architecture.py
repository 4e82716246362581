"""The shape of the code: who may import whom, tests where one looks for them, modules that can be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "mtls_ambassador"
UNIT_TESTS = ROOT / "tests" / "unit"
LONGEST_MODULE = 400

# The highest first. Parts of one level do not import each other.
LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"lab"}),
    frozenset({"ambassador"}),
    frozenset({"managements", "devices"}),
    frozenset({"admission", "edge", "device", "factory"}),
    frozenset({"mender", "pki", "ledger", "tokens"}),
    frozenset({"observe"}),
    frozenset({"config"}),
    frozenset({"serving", "files", "lines", "refusals", "stopping"}),
    frozenset({"errors", "printable", "refusal", "wire", "x509", "__init__"}),
)
FORBIDDEN: Mapping[str, frozenset[str]] = {
    # The lab's Mender Server stands for another party: what it shared with the edge, no test could prove.
    "lab.server": frozenset({"ambassador", "admission", "edge", "mender"}),
}
BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})

# Modules without a unit test of their own name, and where they are tested instead.
TESTED_ELSEWHERE: Mapping[str, str] = {
    "__main__": "one line; tests/integration/test_command_line.py runs it",
    "ambassador": "puts the parts together: all of tests/integration",
    "cli/demo": "tests/e2e/test_demo_ends_with_accepted_devices.py",
    "cli/device_images": "runs mender-artifact: tests/e2e/test_device_image_of_real_partitions.py",
    "cli/devices_preauthorize": "tests/integration/test_manifest_is_preauthorised.py",
    "cli/lab": "arguments in tests/unit/cli/test_main.py",
    "cli/lab_device": "arguments in tests/unit/cli/test_main.py, what it does in tests/integration",
    "cli/pki_batch": "tests/e2e/test_batches_of_devices.py",
    "cli/pki_inspect": "tests/unit/cli/test_pki.py, and what it does in tests/unit/pki",
    "cli/pki_issue": "tests/unit/cli/test_pki.py, and what it does in tests/unit/pki",
    "cli/pki_options": "tests/unit/cli/test_pki.py",
    "cli/pki_records": "tests/unit/cli/test_pki.py, and what it does in tests/unit/pki",
    "cli/pki_select": "tests/unit/cli/test_pki.py",
    "cli/serve": "tests/unit/cli/test_main.py",
    "config/formats": "tests/unit/config/test_sources.py: what a file says and what is wrong with it",
    "device/errors": "classes without code",
    "devices/rows": "tests/unit/devices/test_manifest.py and test_keys.py",
    "edge/errors": "a class without code",
    "edge/process": "a process by nature: tests/integration/test_envoy_lives_and_dies_with_the_control_plane.py",
    "lab/demo": "tests/e2e/test_demo_ends_with_accepted_devices.py",
    "lab/mender_client": "runs the real Mender client: tests/e2e",
    "factory/errors": "classes without code",
    "ledger/errors": "a class without code",
    "ledger/migrations/env": "tests/unit/ledger/test_migration.py",
    "ledger/migrations/versions/first_schema": "tests/unit/ledger/test_migration.py",
    "mender/direct": "real TLS: tests/integration/test_manifest_is_preauthorised.py",
    "ledger/rows": "what facts and queries read: tests/unit/ledger/test_facts.py and test_queries.py",
    "mender/errors": "classes without code",
    "managements": "sessions and probing: tests/integration/test_several_trust_anchors.py",
    "admission/errors": "classes without code",
    "pki/constraints": "odd certificates in tests/unit/pki/test_lint.py",
    "pki/issuing": "what lies in the folder afterwards: tests/unit/pki/test_authority.py",
    "pki/names": "odd certificates in tests/unit/pki/test_lint.py",
    "pki/path": "odd certificates in tests/unit/pki/test_lint.py",
    "pki/signature": "odd certificates in tests/unit/pki/test_lint.py",
    "refusal": "tests/unit/test_refusals.py",
    "pki/signer": "the certificates it signs are what tests/unit/pki/test_profiles.py looks at",
    "wire": "names only",
}
# The lab's server is one thing to its tests, which ask it over HTTP as Mender is asked.
TESTED_AS_ONE = ("lab/server/",)


def modules() -> list[str]:
    """All modules, such as `edge/plan`; of packages only those with code in them."""
    files = (file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")
    return sorted(file.relative_to(PACKAGE).with_suffix("").as_posix() for file in files)


def imports(file: Path) -> Iterator[str]:
    """What a module imports of this package, such as `edge.plan`, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == PACKAGE.name:
                yield rest


def part(name: str) -> str:
    """The part of the program that a module belongs to: `edge` for `edge.plan`, `__init__` for what has no module."""
    first = name.replace("/", ".").partition(".")[0]
    return first if (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file() else "__init__"


def level(name: str) -> int:
    (found,) = [number for number, names in enumerate(LEVELS) if part(name) in names]
    return found


def test_every_part_has_a_level() -> None:
    parts = {part(module) for module in modules()} | {"__init__"}
    assert parts == set().union(*LEVELS)


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_only(module: str) -> None:
    for imported in imports(PACKAGE / f"{module}.py"):
        same = part(imported) == part(module)
        assert same or level(imported) > level(module), f"{module} imports {imported}"


@pytest.mark.parametrize("module", modules())
def test_who_must_not_know_whom(module: str) -> None:
    for place, forbidden in FORBIDDEN.items():
        if module.replace("/", ".").startswith(f"{place}."):
            for imported in imports(PACKAGE / f"{module}.py"):
                assert part(imported) not in forbidden, f"{module} imports {imported}"


def test_packages_hold_no_imports_that_hide_an_upward_one() -> None:
    for file in PACKAGE.rglob("__init__.py"):
        package = file.parent.relative_to(PACKAGE).as_posix().replace(".", "")
        for imported in imports(file):
            assert part(imported) == part(package or "__init__"), f"{file} imports {imported}"


@pytest.mark.parametrize("module", modules())
def test_every_module_has_its_unit_test(module: str) -> None:
    folder, _, name = module.rpartition("/")
    if module in TESTED_ELSEWHERE or module.startswith(TESTED_AS_ONE):
        return
    assert (UNIT_TESTS / folder / f"test_{name}.py").is_file(), f"write tests/unit/{folder}/test_{name}.py"


def test_exceptions_are_about_modules_that_exist() -> None:
    assert set(TESTED_ELSEWHERE) <= set(modules())
    for place in TESTED_AS_ONE:
        assert list((UNIT_TESTS / place).glob("test_*.py"))


@pytest.mark.parametrize(
    "folder",
    [
        "admission",
        "cli",
        "config",
        "device",
        "devices",
        "edge",
        "factory",
        "lab",
        "ledger",
        "mender",
        "observe",
        "pki",
        "tokens",
    ],
)
def test_unit_tests_mirror_the_source(folder: str) -> None:
    for file in (UNIT_TESTS / folder).glob("test_*.py"):
        assert (PACKAGE / folder / f"{file.stem.removeprefix('test_')}.py").is_file(), f"{file} mirrors nothing"


@pytest.mark.parametrize("module", modules())
def test_modules_can_be_read_in_one_go(module: str) -> None:
    lines = len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE, f"{module} has {lines} lines: look for the second thing inside"


@pytest.mark.parametrize("folder", [SOURCE, ROOT / "tests", ROOT / "bench"])
def test_names_say_what_is_inside(folder: Path) -> None:
    for file in folder.rglob("*.py"):
        words = {word for name in (*file.relative_to(folder).parts[:-1], file.stem) for word in name.split("_")}
        assert not words & BANNED_NAMES, file
