"""What an event leaves in the tables, beside what admission reads of them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Row, Table, select
from structlog.testing import capture_logs

from mtls_ambassador.ledger.database import reading, writing
from mtls_ambassador.ledger.facts import certificate_name
from mtls_ambassador.ledger.records import Event, EventKind
from mtls_ambassador.ledger.schema import certificates, claims, devices, history, links
from mtls_ambassador.ledger.writes import CLAIMS_KEPT, LONGEST_TEXT, plain, write
from tests.unit.ledger.examples import MAC_A, MAC_B, NOW, SECOND, A, B, certificate, event

ADMITTED, REFUSED = EventKind.ADMITTED, EventKind.REFUSED


def rows(connection: Connection, table: Table) -> list[Row[Any]]:
    with reading(connection):
        return list(connection.execute(select(table).order_by(table.c.id)))


def happen(connection: Connection, *events: Event, **more: Any) -> None:
    with writing(connection):
        for one in events:
            write(connection, one, **more)


def test_a_refused_stranger_makes_no_device(connection: Connection) -> None:
    happen(connection, *[event(REFUSED, f'{{"mac":"{number}"}}') for number in range(10)])
    assert rows(connection, devices) == []
    assert len(rows(connection, claims)) == CLAIMS_KEPT
    (seen,) = rows(connection, certificates)
    assert seen.refusals == 10


def test_of_refused_claims_the_last_are_kept(connection: Connection) -> None:
    happen(connection, *[event(REFUSED, mac, at=NOW + n * SECOND) for n, mac in enumerate("abcab")])
    assert {row.identity for row in rows(connection, claims)} == {"a", "b"}


def test_a_device_remembers_what_last_happened_to_it(connection: Connection) -> None:
    happen(
        connection,
        event(mender_id="m1"),
        event(REFUSED, MAC_A, B, at=NOW + SECOND, reason="key_superseded", address="203.0.113.9:1"),
        event(EventKind.CONTESTED, at=NOW + 2 * SECOND),
        event(at=NOW + 3 * SECOND, address="192.0.2.8:5"),
    )
    (row,) = rows(connection, devices)
    assert (row.first_seen, row.last_admitted) == (NOW, NOW + 3 * SECOND)
    assert (row.contested, row.last_address, row.mender_id) == (NOW + 2 * SECOND, "192.0.2.8:5", "m1")


def test_a_certificate_remembers_its_refusals(connection: Connection) -> None:
    happen(
        connection,
        event(REFUSED, None, reason="malformed_request"),
        event(REFUSED, None, at=NOW + SECOND, reason="key_mismatch", address="192.0.2.9:1"),
        event(at=NOW + 2 * SECOND),
    )
    (row,) = rows(connection, certificates)
    assert (row.first_seen, row.last_seen) == (NOW, NOW + 2 * SECOND)
    assert (row.refusals, row.last_refused, row.last_reason) == (2, NOW + SECOND, "key_mismatch")


@pytest.mark.parametrize("how", [EventKind.ACCEPTED, EventKind.ROTATED, EventKind.ADOPTED, EventKind.READMITTED])
def test_a_link_remembers_how_it_came_to_be(connection: Connection, how: EventKind) -> None:
    happen(connection, event(how), event(), event(at=NOW + SECOND, request_id="another"))
    (link,) = rows(connection, links)
    assert link.how == how
    assert (link.first_admitted, link.last_admitted) == (NOW, NOW + SECOND)


def test_what_another_request_did_says_nothing_about_a_link(connection: Connection) -> None:
    happen(connection, event(EventKind.ROTATED, request_id="another"), event())
    assert [link.how for link in rows(connection, links)] == ["admitted"]


def test_history_tells_all_of_an_event(connection: Connection) -> None:
    happen(
        connection,
        event(
            REFUSED, reason="busy", detail="too many", mender_id="m1", mender_status=401, rule="cn", auth_key=B.key
        ),
        left_out=7,
    )  # fmt: skip
    (entry,) = rows(connection, history)
    assert entry._asdict() == {
        "id": 1, "at": NOW, "kind": "refused", "request_id": "request-1", "address": "192.0.2.7:4711",
        "identity_digest": entry.identity_digest, "identity": MAC_A, "certificate_id": 1, "auth_key": B.key,
        "reason": "busy", "detail": "too many", "mender_id": "m1", "mender_status": 401, "rule": "cn", "left_out": 7,
    }  # fmt: skip


def test_what_is_left_out_of_the_history_still_counts(connection: Connection) -> None:
    happen(connection, event(), event(REFUSED), left_out=None)
    assert rows(connection, history) == []
    assert len(rows(connection, devices)) == len(rows(connection, claims)) == 1
    assert rows(connection, certificates)[0].refusals == 1


def test_history_stays_when_a_device_is_forgotten(connection: Connection) -> None:
    happen(connection, event(), event(EventKind.FORGOTTEN, of=None))
    assert [entry.kind for entry in rows(connection, history)] == ["admitted", "forgotten"]
    assert rows(connection, devices) == rows(connection, links) == []


def test_a_key_that_comes_to_hold_two_identities_is_told_once(connection: Connection) -> None:
    renewed = certificate("renewed", key="a")
    with capture_logs() as logged:
        happen(connection, event(), event(ADMITTED, MAC_B, renewed), event(ADMITTED, MAC_B, renewed))
    assert [line["log_level"] for line in logged] == ["error"]
    kinds = [entry.kind for entry in rows(connection, history)]
    assert kinds == ["admitted", "key_shared", "admitted", "admitted"]
    assert MAC_A in rows(connection, history)[1].detail
    assert len(rows(connection, devices)) == 2


def test_where_keys_may_hold_many_identities_that_is_nothing_to_tell(connection: Connection) -> None:
    with capture_logs() as logged:
        happen(connection, event(), event(identity=MAC_B), one_identity_per_key=False)
    assert logged == []
    assert [entry.kind for entry in rows(connection, history)] == ["admitted", "admitted"]


def test_a_very_long_identity_is_whole_where_it_counts_and_cut_where_it_is_shown(connection: Connection) -> None:
    long = f'{{"mac":"{"x" * 60_000}"}}'
    happen(connection, event(identity=long), event(REFUSED, long, B))
    assert [row.identity for row in rows(connection, devices)] == [long]
    for table in (history, claims):
        for row in rows(connection, table):
            assert len(row.identity) == LONGEST_TEXT
            assert long.startswith(row.identity[:-1])


@pytest.mark.parametrize(
    ("text", "kept"), [("a\0b", "a\N{REPLACEMENT CHARACTER}b"), ("a\ud800b", "a?b"), ("ä€😀", "ä€😀")]
)
def test_text_that_a_database_would_not_take(text: str, kept: str) -> None:
    assert plain(text) == kept


def test_an_event_of_nobody_is_history(connection: Connection) -> None:
    happen(connection, *[event(kind, None, None) for kind in EventKind])
    assert len(rows(connection, history)) == len(EventKind)
    assert rows(connection, devices) == rows(connection, certificates) == []
    assert A != B


def test_whoever_shows_a_copied_token_claims_its_identity(connection: Connection) -> None:
    shown = event(REFUSED, None, B, reason="token_of_another_certificate", token_of=A.fingerprint, at=NOW + SECOND)
    happen(connection, event(), shown)
    (claim,) = rows(connection, claims)
    assert (claim.identity, claim.last_reason) == (MAC_A, "token_of_another_certificate")
    assert rows(connection, history)[-1].identity == MAC_A


def test_a_token_of_nobody_or_of_several_names_no_identity(connection: Connection) -> None:
    several = [event(identity=mac, of=B) for mac in (MAC_A, MAC_B)]
    happen(connection, *several, event(REFUSED, None, A, token_of=B.fingerprint), one_identity_per_key=False)
    happen(connection, event(REFUSED, None, A, token_of=certificate("c").fingerprint))
    assert [row.identity for row in rows(connection, history)][-2:] == [None, None]
    assert rows(connection, claims) == []


def test_what_nobody_was_told_of_counts_as_refused(connection: Connection) -> None:
    happen(connection, event(REFUSED, None, A, left_out=7), event(REFUSED, None, A, left_out=2))
    (seen,) = rows(connection, certificates)
    assert seen.refusals == 11


def test_a_certificate_keeps_the_anchor_that_it_is_known_by(connection: Connection) -> None:
    unknown = certificate("a", anchor="")
    happen(connection, event(REFUSED, None, unknown))
    happen(connection, event(REFUSED, None, A))
    (known,) = rows(connection, certificates)
    happen(connection, event(REFUSED, None, unknown))
    (kept,) = rows(connection, certificates)
    assert (known.anchor, kept.anchor) == ("default", "default")
    assert known.name == kept.name == certificate_name(A)
