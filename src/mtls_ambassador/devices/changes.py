"""What operators tell the ledger: adoptions, and what to forget. Events, made of what they say and what is there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from mtls_ambassador.devices.answers import Answer, of_certificate
from mtls_ambassador.devices.dossier import normal_query
from mtls_ambassador.devices.operators import Operator
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.queries import Link, adoptions, device, links_of_certificate, links_of_identity
from mtls_ambassador.ledger.records import Adoption, AdoptionKind, Certificate, Event, EventKind
from mtls_ambassador.ledger.search import certificates_named, claimed_in_vain, devices_named

BATCH = 1000
"""Adoptions at a time."""


class NothingToForgetError(Error):
    """It is not clear what is meant, or there is no such thing."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be forgotten: an identity, or a certificate."""

    identity: str | None
    certificate: Certificate | None
    links: tuple[Link, ...]
    """What is known of it and will not be."""

    def as_answer(self) -> Answer:
        """For a person who has to say yes."""
        return {
            "kind": "forget",
            "identity": self.identity,
            "certificate": of_certificate(self.certificate),
            "admissions": len(self.links),
            "identities": sorted({link.identity for link in self.links}),
        }

    def event(self, at: dt.datetime, by: Operator) -> Event:
        """What the history and the audit log say of it."""
        return Event(at, EventKind.FORGOTTEN, identity=self.identity, certificate=self.certificate, detail=f"by {by}")


def new_adoptions(connection: Connection, said: Sequence[Adoption]) -> list[Adoption]:
    """Those that the ledger does not hold already.

    Args:
        connection: In a transaction that reads.
        said: `BATCH` at most.
    """
    held = adoptions(connection, [adoption.identity for adoption in said])
    return [adoption for adoption in said if held.get(adoption.identity) != adoption]


def noted(adoption: Adoption, at: dt.datetime, by: Operator) -> Event:
    """The event of an adoption."""
    return Event(
        at,
        EventKind.ADOPTION_NOTED,
        identity=adoption.identity,
        detail=f"{adoption.kind} {adoption.value}, by {by}",
        adoption=adoption,
    )


def what_to_forget(connection: Connection, query: str) -> Target:
    """The one identity or certificate that `query` names.

    Raises:
        NothingToForgetError: it names none, or more than one.
    """
    text = normal_query(query)
    identities = {one.identity for one in devices_named(connection, text)}
    identities |= {claim.identity for claim in claimed_in_vain(connection, text)} - identities
    certificates = certificates_named(connection, text)
    if not identities and not certificates:
        raise NothingToForgetError(
            f"the ledger knows no identity and no certificate by {query!r}",
            "Name an identity (mac=VALUE, or its JSON), Mender's id, or a certificate's serial, fingerprint or CN.",
        )
    if len(identities) + len(certificates) > 1:
        found = [*sorted(identities), *(f"certificate {one.certificate.serial}" for one in certificates)]
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise NothingToForgetError(
            f"{query!r} names {len(found)} things: {shown}",
            "Name one: an identity as mac=VALUE, a certificate by serial.",
        )
    if identities:
        (identity,) = identities
        return Target(identity, None, links_of_identity(connection, identity))
    certificate = certificates[0].certificate
    return Target(None, certificate, links_of_certificate(connection, certificate.fingerprint))


def exact_target(connection: Connection, answer: Mapping[str, Any]) -> Target:
    """The target that a person said yes to, as it is now.

    Raises:
        NothingToForgetError: it is gone.
    """
    if isinstance(identity := answer.get("identity"), str):
        if device(connection, identity) is None and not claimed_in_vain(connection, identity):
            raise NothingToForgetError("the identity is no longer in the ledger")
        return Target(identity, None, links_of_identity(connection, identity))
    name = str((answer.get("certificate") or {}).get("sha256", ""))
    found = [one for one in certificates_named(connection, name) if one.certificate.fingerprint == name]
    if not found:
        raise NothingToForgetError("the certificate is no longer in the ledger")
    return Target(None, found[0].certificate, links_of_certificate(connection, name))


def adoption_as_answer(adoption: Adoption) -> Answer:
    """An adoption on its way to the edge."""
    return {"identity": adoption.identity, "by": adoption.kind.value, "value": adoption.value}


def adoption_of_answer(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest's fields of it, to be read as carefully as those of a manifest."""
    return {"identity": answer.get("identity"), str(AdoptionKind(answer.get("by", ""))): answer.get("value")}
