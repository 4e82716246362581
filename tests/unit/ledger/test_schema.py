"""How times and digests are kept."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy.dialects import sqlite

from mtls_ambassador.ledger.schema import Digest, Moment, digest
from tests.unit.ledger.examples import NOW, sha256

DIALECT = sqlite.dialect()


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        dt.datetime(1950, 1, 1, tzinfo=dt.UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    ],
)
def test_a_moment_comes_back_as_it_was(moment: dt.datetime) -> None:
    kept = Moment().process_bind_param(moment, DIALECT)
    assert isinstance(kept, int)
    assert Moment().process_result_value(kept, DIALECT) == moment


def test_a_time_without_zone_is_an_error() -> None:
    with pytest.raises(TypeError):
        Moment().process_bind_param(NOW.replace(tzinfo=None), DIALECT)


def test_a_digest_is_half_as_long_inside() -> None:
    kept = Digest().process_bind_param(sha256("x"), DIALECT)
    assert kept is not None
    assert len(kept) == 32
    assert Digest().process_result_value(kept, DIALECT) == sha256("x")


def test_digests_tell_texts_apart_by_their_borders() -> None:
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("x") == sha256("x")
