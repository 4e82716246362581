"""Who gives a command, in words."""

from __future__ import annotations

import os
import pwd

import pytest

from mtls_ambassador.devices.operators import Operator, operator


def test_this_user() -> None:
    uid = os.getuid()
    name = pwd.getpwuid(uid).pw_name
    assert str(operator(uid)) == f"{name} (uid {uid})"


@pytest.mark.parametrize("uid", [4_000_000_000, 1 << 40])
def test_a_user_that_this_machine_does_not_know(uid: int) -> None:
    assert str(operator(uid)) == f"uid {uid}"


def test_sudo_is_said_as_what_it_is() -> None:
    assert str(Operator(0, "root", 1000)) == "root (uid 0), by sudo from uid 1000 as SUDO_UID says"


@pytest.mark.parametrize("said", [None, "", "-1", "root", "1 or so", "9" * 20])
def test_what_is_no_uid_is_not_said(said: str | None) -> None:
    assert operator(0, said).sudo_uid is None
