"""What all tests share: real peers are asked for by name, and missing ones are said so."""

from __future__ import annotations

import os

import pytest

from tests.peers import require


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose real peer is missing, naming what helps; in CI that is a failure.

    Skip what is slow, but in CI and where it is asked for.
    """
    if item.get_closest_marker("slow") and not os.environ.get("CI") and "slow" not in item.config.option.markexpr:
        pytest.skip("slow: pytest -m slow")
    for marker in item.iter_markers("needs"):
        for peer in marker.args:
            require(peer)
