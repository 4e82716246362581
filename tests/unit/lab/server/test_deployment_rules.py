"""A deployment's status follows from its devices'."""

from __future__ import annotations

import pytest

from mtls_ambassador.lab.server.deployment_rules import deployment_status, statistics


def test_statistics_have_all_statuses() -> None:
    counts = statistics(["pending", "success", "success"])
    assert (counts["pending"], counts["success"], counts["failure"], len(counts)) == (1, 2, 0, 13)


@pytest.mark.parametrize(
    ("statuses", "finished", "expected"),
    [
        (["pending", "pending"], False, "pending"),
        (["pending", "decommissioned"], False, "pending"),
        (["pending", "downloading"], False, "inprogress"),
        (["pending", "pause_before_rebooting"], False, "inprogress"),
        (["pending", "success"], False, "inprogress"),
        (["failure", "success"], False, "finished"),
        (["already-installed", "noartifact", "decommissioned", "aborted"], False, "finished"),
        (["pending"], True, "finished"),
        ([], True, "finished"),
    ],
)
def test_status(statuses: list[str], finished: bool, expected: str) -> None:
    assert deployment_status(statistics(statuses), finished=finished) == expected
