"""docs/reference is what the program says now; `make docs` writes it anew."""

from __future__ import annotations

import re

import pytest

from mtls_ambassador.config.anchors import TrustAnchor
from mtls_ambassador.config.settings import SECRET_KEYS, Settings
from mtls_ambassador.refusals import RefusalReason
from tests.reference_pages import BEGIN, DIRECTORY, END, PAGES, renewed


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_fresh(name: str) -> None:
    page = (DIRECTORY / name).read_text(encoding="utf-8")
    assert page == renewed(page, PAGES[name]()), "run `make docs`"


def test_there_is_no_other_page() -> None:
    written_by_hand = {"performance.md"}
    assert {file.name for file in DIRECTORY.iterdir()} == {*PAGES, *written_by_hand}


@pytest.mark.parametrize("key", Settings.model_fields)
def test_every_setting_is_described_under_all_its_names(key: str) -> None:
    page = PAGES["configuration.md"]()
    assert f"### `{key}`\n" in page
    assert f"`MTLS_{key.upper()}`" in page
    option = f"--{key.replace('_', '-')}"
    assert (f"`{option}-file`" if key in SECRET_KEYS else f"`{option}`") in page


@pytest.mark.parametrize("key", TrustAnchor.model_fields)
def test_every_key_of_a_trust_anchor_is_described(key: str) -> None:
    assert f"| `{key}` | " in PAGES["configuration.md"]()


@pytest.mark.parametrize("reason", RefusalReason, ids=lambda reason: reason.label)
def test_every_reason_is_described(reason: RefusalReason) -> None:
    page = PAGES["refusal-reasons.md"]()
    assert page.count(f"### `{reason.label}`\n") == 1
    assert reason.value.log in page
    assert reason.value.remedy in page


def test_every_command_is_described() -> None:
    page = PAGES["command-line.md"]()
    titles = re.findall(r"^## mtls-ambassador ?(.*)$", page, re.MULTILINE)
    assert titles[0] == ""
    assert {
        "serve",
        "demo",
        "help",
        "pki",
        "pki init",
        "pki server",
        "pki device",
        "lab",
        "lab server",
        "lab device",
    } <= set(titles)
    assert "h" not in titles


def test_links_between_pages_lead_somewhere() -> None:
    for name in PAGES:
        page = (DIRECTORY / name).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]+))?\)", page):
            file = DIRECTORY / target
            assert file.is_file(), target
            assert not anchor or f"`{anchor}`" in file.read_text(encoding="utf-8"), anchor


def test_prose_around_the_generated_part_stays() -> None:
    page = f"# Title\n\nprose\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    assert renewed(page, "new") == f"# Title\n\nprose\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore\n"
    assert renewed(renewed(page, "new"), "new") == renewed(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_one_place_for_it_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match="a page needs one"):
        renewed(page, "new")
