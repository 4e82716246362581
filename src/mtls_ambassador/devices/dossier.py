"""All that the ledger holds about one thing that an operator asks for: a device, a claim, or a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.identity import parse_identity
from mtls_ambassador.ledger.claims import RefusedClaim, refused_claims
from mtls_ambassador.ledger.queries import (
    Device,
    HistoryEntry,
    HistoryFilter,
    Link,
    SeenCertificate,
    device,
    links_of_certificate,
    links_of_identity,
    list_history,
)
from mtls_ambassador.ledger.records import Certificate, EventKind
from mtls_ambassador.ledger.search import search

MOST_HISTORY = 20
_MOST_PARTIES = 20

Match = Device | RefusedClaim | SeenCertificate


@dataclass(frozen=True, slots=True)
class Dossier:
    """What is known. The latest comes first in every tuple."""

    match: Match
    """What was found."""
    device: Device | None
    """The device it is about; for a certificate, the one that it claimed last."""
    links: tuple[Link, ...]
    """Which certificates a device was admitted with, or which identities a certificate."""
    claims: tuple[RefusedClaim, ...]
    """Who claimed the identity in vain, or what the certificate claimed in vain."""
    elsewhere: tuple[RefusedClaim, ...]
    """What the device's own certificate claimed in vain beside it."""
    refusals: tuple[HistoryEntry, ...]
    """The last refusal of each certificate in `claims`, or of each identity there, as far as the history has it."""
    history: tuple[HistoryEntry, ...]
    """The last events."""


def find(connection: Connection, query: str) -> tuple[Match, ...]:
    """What a query finds, each thing once: a claim to a device that was found belongs to that device.

    Args:
        connection: In a transaction that reads.
        query: As `search` takes it; an identity's JSON in any spelling.
    """
    found = search(connection, normal_query(query))
    identities = {one.identity for one in found.devices}
    claims = {claim.identity: claim for claim in reversed(found.claims) if claim.identity not in identities}
    identities |= claims.keys()
    alone = tuple(one for one in found.certificates if not identities & _identities_of(connection, one))
    return (*found.devices, *reversed(claims.values()), *alone)


def normal_query(query: str) -> str:
    """The query, with an identity's JSON in its normal form."""
    text = query.strip().encode("utf-8", "replace").decode()  # no ledger holds half a character
    if text.startswith("{"):
        try:
            return parse_identity(text).normal_form
        except Refused:
            pass  # it may be the beginning of one
    return text


def collect(connection: Connection, match: Match) -> Dossier:
    """All about one thing that was found."""
    if isinstance(match, SeenCertificate):
        return _of_certificate(connection, match)
    identity, holder = match.identity, match.holder if isinstance(match, Device) else None
    claims = refused_claims(connection, identity=identity, limit=_MOST_PARTIES)
    own = refused_claims(connection, fingerprint=holder.fingerprint) if holder else ()
    return Dossier(
        match=match,
        device=match if isinstance(match, Device) else None,
        links=links_of_identity(connection, identity),
        claims=claims,
        elsewhere=tuple(claim for claim in own if claim.identity != identity),
        refusals=_refusals(connection, ((identity, claim.certificate.fingerprint) for claim in claims)),
        history=_history(connection, identity, holder),
    )


def _history(connection: Connection, identity: str, holder: Certificate | None) -> tuple[HistoryEntry, ...]:
    """An identity's, and what its certificate did without claiming one."""
    found = list_history(connection, HistoryFilter(identity=identity), limit=MOST_HISTORY)
    if holder is not None:
        its_own = HistoryFilter(fingerprint=holder.fingerprint, unclaimed=True)
        found += list_history(connection, its_own, limit=MOST_HISTORY)
    return tuple(sorted(found, key=lambda entry: entry.number, reverse=True)[:MOST_HISTORY])


def _of_certificate(connection: Connection, seen: SeenCertificate) -> Dossier:
    name = seen.certificate.fingerprint
    claims = refused_claims(connection, fingerprint=name)
    return Dossier(
        match=seen,
        device=device(connection, claims[0].identity) if claims else None,
        links=links_of_certificate(connection, name),
        claims=claims,
        elsewhere=(),
        refusals=_refusals(connection, ((claim.identity, name) for claim in claims)),
        history=list_history(connection, HistoryFilter(fingerprint=name), limit=MOST_HISTORY),
    )


def _refusals(connection: Connection, pairs: Iterable[tuple[str, str]]) -> tuple[HistoryEntry, ...]:
    found = list[HistoryEntry]()
    for identity, name in pairs:
        which = HistoryFilter(identity=identity, fingerprint=name, kinds=(EventKind.REFUSED,))
        found += list_history(connection, which, limit=1)
    return tuple(sorted(found, key=lambda entry: entry.number, reverse=True))


def _identities_of(connection: Connection, seen: SeenCertificate) -> set[str]:
    name = seen.certificate.fingerprint
    linked = {link.identity for link in links_of_certificate(connection, name)}
    return linked | {claim.identity for claim in refused_claims(connection, fingerprint=name)}
