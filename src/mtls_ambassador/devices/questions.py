"""What operators ask, answered out of a ledger: the same for a running edge and for a file.

Each function takes a connection in a transaction that reads.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from mtls_ambassador.devices.answers import (
    Answer,
    of_claim,
    of_device,
    of_entry,
    of_link,
    of_seen,
    of_warned,
)
from mtls_ambassador.devices.dossier import Dossier, Match, collect, find
from mtls_ambassador.devices.explain import Live, explain
from mtls_ambassador.devices.report import Observed, advice
from mtls_ambassador.ledger.claims import RefusedClaim, list_refused
from mtls_ambassador.ledger.queries import Device, DeviceFilter, Totals, list_devices, totals, warned
from mtls_ambassador.ledger.schema import devices, history


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What a query found."""

    matches: tuple[Match, ...]
    dossier: Dossier | None
    """All about it, if it is one."""
    searched: Totals
    """How much there was to search."""


def list_page(connection: Connection, which: DeviceFilter, after: int = 0) -> tuple[list[Answer], int | None]:
    """A page of a list, and after what it goes on (None: that was all).

    With `refused_since` it is a list of refused certificates, each with the identity that it was refused with: no
    device is in it because another one claimed its identity.
    """
    if which.refused_since is None:
        devices = list_devices(connection, which, after=after)
        return [of_device(device) for device in devices], devices[-1].number if devices else None
    claims = list_refused(connection, which.refused_since, which, after=after)
    return [of_claim(claim) for claim in claims], claims[-1].number if claims else None


def look_up(connection: Connection, query: str) -> LookedUp:
    """Look for what an operator has at hand; see `dossier.find`."""
    matches = find(connection, query)
    return LookedUp(matches, collect(connection, matches[0]) if len(matches) == 1 else None, totals(connection))


def shown(found: LookedUp) -> list[Answer]:
    """The answer to `show`: everything about one match, or several matches in short, or `nothing`."""
    if found.dossier is not None:
        return [_whole(found.dossier)]
    if found.matches:
        return [_short(match) for match in found.matches]
    return [{"kind": "nothing", "devices": found.searched.devices, "certificates": found.searched.certificates}]


def explained(found: LookedUp, live: Live | None = None) -> list[Answer]:
    """The answer to `explain`: as `shown`, with the explanation, and with what a running edge adds."""
    if found.dossier is None:
        return shown(found)
    words = {"explanation": asdict(explain(found.dossier, live)), "live": asdict(live) if live else None}
    return [{**_whole(found.dossier), **words}]


def report(connection: Connection, since: dt.datetime, mode: str | None) -> list[Answer]:
    """What a binding rule would have refused: an answer for each rule and identity, and one with the advice.

    Args:
        connection: As for all here.
        since: From when on.
        mode: Of the running edge's binding; None: nobody can say.
    """
    found = warned(connection, since)
    came = select(func.count()).select_from(devices).where(devices.c.last_admitted >= since)
    # By the primary key, since no index leads to the time alone.
    oldest = connection.execute(select(history.c.at).order_by(history.c.id).limit(1)).scalar()
    observed = Observed(
        since=since,
        begins=oldest,
        would_refuse=len({one.identity for one in found}),
        came=connection.execute(came).scalar_one(),
        devices=totals(connection).devices,
        mode=mode,
    )
    summary = {
        "kind": "report",
        "since": since.isoformat(timespec="seconds"),
        "history_begins": oldest.isoformat(timespec="seconds") if oldest else None,
        "would_refuse": observed.would_refuse,
        "devices_admitted_since": observed.came,
        "devices": observed.devices,
        "mode": mode,
        "safe": observed.safe,
        "advice": advice(observed),
    }
    return [*map(of_warned, found), summary]


def _short(match: Match) -> dict[str, Any]:
    if isinstance(match, Device):
        return of_device(match)
    return of_claim(match) if isinstance(match, RefusedClaim) else of_seen(match)


def _whole(dossier: Dossier) -> dict[str, Any]:
    return {
        **_short(dossier.match),
        "admitted_with": [of_link(link) for link in dossier.links],
        "refused_with": [of_claim(claim) for claim in (*dossier.claims, *dossier.elsewhere)],
        "history": [of_entry(entry) for entry in dossier.history],
    }
