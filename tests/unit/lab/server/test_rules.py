"""The state rules of devices and auth sets."""

from __future__ import annotations

import pytest

from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.rules import check_transition, device_status, status_may_change


@pytest.mark.parametrize(
    ("sets", "status"),
    [
        ([], "noauth"),
        (["rejected"], "rejected"),
        (["rejected", "rejected"], "rejected"),
        (["rejected", "pending"], "pending"),
        (["pending", "preauthorized", "rejected"], "preauthorized"),
        (["pending", "preauthorized", "accepted"], "accepted"),
    ],
)
def test_a_device_has_the_strongest_status_of_its_sets(sets: list[str], status: str) -> None:
    assert device_status(sets) == status


@pytest.mark.parametrize("status", ["accepted", "preauthorized"])
def test_two_accepted_or_preauthorized_sets_are_broken(status: str) -> None:
    with pytest.raises(Refusal) as caught:
        device_status([status, "pending", status])
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pending", "accepted"),
        ("rejected", "accepted"),
        ("pending", "rejected"),
        ("accepted", "rejected"),
        ("accepted", "pending"),
        ("rejected", "pending"),
    ],
)
def test_allowed_transitions(old: str, new: str) -> None:
    check_transition(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("preauthorized", "accepted"),
        ("preauthorized", "rejected"),
        ("preauthorized", "pending"),
        ("pending", "preauthorized"),
        ("pending", "noauth"),
        ("pending", ""),
    ],
)
def test_other_transitions_are_refused(old: str, new: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_transition(old, new)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("old", "new", "device", "changes"),
    [
        ("pending", "accepted", "pending", True),
        ("pending", "rejected", "pending", True),
        ("pending", "rejected", "accepted", False),
        ("rejected", "pending", "accepted", False),
        ("accepted", "rejected", "accepted", True),
    ],
)
def test_when_the_status_of_the_device_is_looked_at_again(old: str, new: str, device: str, changes: bool) -> None:
    assert status_may_change(old, new, device) is changes
