"""The statuses of deployments and of devices in them. Pure.

Source: Mender deployments, model/device_deployment.go, model/deployment.go, model/status.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PENDING, ABORTED, FAILURE, DECOMMISSIONED = "pending", "aborted", "failure", "decommissioned"
ALREADY_INSTALLED, NO_ARTIFACT = "already-installed", "noartifact"

ACTIVE = (
    "pause_before_installing",
    "pause_before_committing",
    "pause_before_rebooting",
    "downloading",
    "installing",
    "rebooting",
    PENDING,
)
FINAL = (FAILURE, "success", ABORTED, NO_ARTIFACT, ALREADY_INSTALLED, DECOMMISSIONED)
FROM_DEVICES = frozenset(ACTIVE) - {PENDING} | {"success", FAILURE, ALREADY_INSTALLED}
"""What a device may report; the rest only the server sets."""


def statistics(statuses: Iterable[str]) -> dict[str, int]:
    """How many devices have each status; all statuses are there."""
    counts = dict.fromkeys((*ACTIVE, *FINAL), 0)
    for status in statuses:
        counts[status] += 1
    return counts


def deployment_status(counts: Mapping[str, int], *, finished: bool) -> str:
    """pending, inprogress or finished, from the devices' statuses.

    Args:
        counts: As `statistics` gives them.
        finished: It has ended before, as by an abort.
    """
    if finished or all_final(counts):
        return "finished"
    begun = any(count for status, count in counts.items() if status not in {PENDING, DECOMMISSIONED})
    return "inprogress" if begun else "pending"


def all_final(counts: Mapping[str, int]) -> bool:
    """Whether every device has ended, one way or the other."""
    return any(counts.values()) and not any(counts[status] for status in ACTIVE)
