"""`tests.peers`: what is missing is a skip on a laptop and a failure in CI, root like a program."""

from __future__ import annotations

import pytest

from tests import peers


def test_what_is_there_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    peers.require("root")
    monkeypatch.setattr("shutil.which", lambda program, path: f"/usr/bin/{program}")
    peers.require("openssl")


@pytest.mark.parametrize(("peer", "remedy"), [("root", "sudo"), ("postgres", "apt-get install postgresql")])
@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, peer: str, remedy: str, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda program, path: None)
    with pytest.raises(outcome, match=remedy):
        peers.require(peer)
