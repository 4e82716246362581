"""`refusals`: the closed list is complete in words, and tells devices nothing that is not theirs to know."""

from __future__ import annotations

import re

import pytest

from mtls_ambassador.config.settings import Settings
from mtls_ambassador.refusals import RefusalReason, Stage

each_reason = pytest.mark.parametrize("reason", RefusalReason, ids=lambda reason: reason.label)


def test_labels_are_unique() -> None:
    # Two equal values would make one reason an alias of the other, which iteration does not show.
    assert len(RefusalReason.__members__) == len({reason.label for reason in RefusalReason})


@each_reason
def test_labels_fit_metrics(reason: RefusalReason) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.label)
    assert reason.label == reason.value.label


@each_reason
def test_every_reason_is_worded(reason: RefusalReason) -> None:
    assert reason.value.log
    assert not reason.value.log.endswith(".")
    assert reason.value.remedy.endswith(".")
    assert "\n" not in reason.value.log + reason.value.remedy + reason.value.public


@each_reason
def test_a_status_comes_with_a_text_and_only_then(reason: RefusalReason) -> None:
    assert (reason.value.status is None) == (reason.value.public == "")


@each_reason
def test_statuses_are_errors(reason: RefusalReason) -> None:
    status = reason.value.status
    match reason.value.stage:
        case Stage.HANDSHAKE:
            assert status is None  # there is no HTTP yet
        case Stage.REQUEST | Stage.AUTH_REQUEST:
            assert status is not None
            assert 400 <= status < 500  # Mender was not asked, so nothing of it can have failed
        case Stage.ADMISSION:
            assert status in (None, 401, 502, 503)  # Mender's own answer, its "not yet", no use, or "try again"


@each_reason
def test_devices_are_not_told_of_our_configuration(reason: RefusalReason) -> None:
    for key in Settings.model_fields:
        assert key not in reason.value.public


@each_reason
def test_settings_that_a_remedy_names_exist(reason: RefusalReason) -> None:
    text = f"{reason.value.log} {reason.value.remedy}"
    for name in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text):
        assert name in Settings.model_fields, name
