from __future__ import annotations

from pathlib import Path

import click
import pytest

from mtls_ambassador.cli import upstream
from mtls_ambassador.config.values import parse_backend

BACKEND = "https://mender.example.com"


def of_the_edge(**options: object) -> tuple[object, ...]:
    return upstream.of_the_edge(click.Context(click.Command("any"), obj=options))


def test_it_is_known_from_all_that_the_edge_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    assert of_the_edge(mender_backend=None, config_file=None) == ()
    (tmp_path / "edge.yaml").write_text(f"mender_backend: {BACKEND}\n", encoding="utf-8")
    assert of_the_edge(config_file=str(tmp_path / "edge.yaml")) == (parse_backend(BACKEND),)
    assert of_the_edge(mender_backend=BACKEND) == (parse_backend(BACKEND),)
    monkeypatch.setattr("os.environ", {"MTLS_MENDER_BACKEND": BACKEND})
    assert of_the_edge() == (parse_backend(BACKEND),)


def test_more_are_given() -> None:
    command = click.command(upstream.option(lambda upstreams: upstreams))
    assert command.main(["--upstream", BACKEND], standalone_mode=False) == (parse_backend(BACKEND),)
    with pytest.raises(click.BadParameter, match="not a URL"):
        command.main(["--upstream", "x"], standalone_mode=False)
