"""Why a device gets in or does not, and what to do: from what the ledger holds to plain words. Pure."""

from __future__ import annotations

import datetime as dt
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from mtls_ambassador.devices.dossier import Dossier
from mtls_ambassador.ledger.claims import RefusedClaim
from mtls_ambassador.ledger.queries import HistoryEntry, SeenCertificate
from mtls_ambassador.ledger.records import Certificate, EventKind
from mtls_ambassador.refusals import RefusalReason

_REASONS = {reason.label: reason for reason in RefusalReason}


@dataclass(frozen=True, slots=True)
class Live:
    """What only a running edge knows, beside its ledger."""

    contested: bool
    """Several keys claim the identity by turns now."""
    remembered: bool
    """The holder was admitted within the last hour: Mender alone is asked when it comes again."""
    ledger: str
    """How its ledger is."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one thing that was found; texts hold what devices sent, and are printed escaped."""

    state: str
    """`admitted`, `refused`, `expected` (adopted, and did not come yet), `free` (nobody holds it) or `contested`.

    Of an identity it is its holder's: what is refused to others who claim it changes nothing.
    """
    summary: tuple[str, ...]
    """What happened, in sentences."""
    reason: str | None = None
    """Label of the refusal that stands, whoever it hit."""
    why: str | None = None
    """The reason in words."""
    detail: str | None = None
    """Which condition failed."""
    rule: str | None = None
    remedy: str | None = None
    next_steps: tuple[str, ...] = ()


def explain(dossier: Dossier, live: Live | None = None) -> Explanation:
    """Explain what the ledger holds.

    Args:
        dossier: It.
        live: What a running edge adds.
    """
    refusal = _standing_refusal(dossier)
    summary = (
        tuple(_about_certificate(dossier, dossier.match))
        if isinstance(dossier.match, SeenCertificate)
        else (*_about_identity(dossier, dossier.match.identity), *_about_now(live))
    )
    state = "contested" if live and live.contested else _state(dossier, refusal)
    label = refusal.reason if refusal else _label(dossier)
    reason = _REASONS.get(label or "")
    steps = _steps(dossier, refusal.certificate, reason) if refusal and refusal.certificate and reason else ()
    return Explanation(
        state=state,
        summary=summary,
        reason=label,
        why=reason.value.log if reason else None,
        detail=(refusal.detail or None) if refusal else None,
        rule=refusal.rule if refusal else None,
        remedy=reason.value.remedy if reason else None,
        next_steps=tuple(steps),
    )


def _standing_refusal(dossier: Dossier) -> HistoryEntry | None:
    """The newest refusal of a certificate that was not admitted since."""
    standing = {(claim.identity, claim.certificate) for claim in dossier.claims if claim.stands}
    for entry in dossier.refusals:
        if (entry.identity, entry.certificate) in standing:
            return entry
    refused = (entry for entry in dossier.history[:1] if entry.kind is EventKind.REFUSED)
    return next(refused, None)


def _label(dossier: Dossier) -> str | None:
    """The reason of a refusal that the history no longer has."""
    return next((claim.last_reason for claim in dossier.claims if claim.stands), None)


def _state(dossier: Dossier, refusal: HistoryEntry | None) -> str:
    """What became of the certificate that was asked for; of an identity, what became of its holder."""
    match = dossier.match
    if isinstance(match, RefusedClaim):
        return "refused"
    if isinstance(match, SeenCertificate):
        admitted = max((link.last_admitted for link in dossier.links), default=None)
        refused = refusal.at if refusal else max((claim.last_refused for claim in dossier.claims), default=None)
    elif match.holder is not None:
        admitted, refused = match.last_admitted, match.last_refused
        if refusal is not None and refusal.certificate == match.holder:  # perhaps before it could claim anything
            refused = refusal.at
    elif (adoption := match.adoption) is not None:
        expected = any(claim.stands and adoption.names(claim.certificate) for claim in dossier.claims)
        return "refused" if expected else "expected"
    else:
        return "free"
    if refused is not None and (admitted is None or refused >= admitted):
        return "refused"
    return "admitted" if admitted is not None else "free"


def _about_identity(dossier: Dossier, identity: str) -> Iterator[str]:
    device, now = dossier.device, dossier.claims
    if device is None:
        yield f"No certificate was admitted as {identity} through this edge."
    elif device.holder is not None:
        yield (
            f"{identity} belongs to the certificate {named(device.holder)}, which was last admitted with it "
            f"{moment(device.last_admitted)}{_from(device.last_address)}."
        )
    elif device.last_admitted is not None:
        at = moment(device.last_admitted)
        yield f"Nobody holds {identity}: its certificate was forgotten. It was last admitted {at}."
    else:
        yield f"No certificate was admitted as {identity} through this edge so far."
    if device is not None and device.adoption is not None:
        by = f"{device.adoption.kind} {device.adoption.value}"
        yield f"An operator gave it to the certificate with {by} (devices adopt)."
    for link in dossier.links:
        if link.superseded:
            last = moment(link.last_admitted)
            yield f"Before, it belonged to the certificate {named(link.certificate)}, last admitted {last}."
    holder = device.holder.fingerprint if device and device.holder else None
    for claim in now:
        whose = "Its own certificate" if claim.certificate.fingerprint == holder else "Certificate"
        yield (
            f"{whose} {named(claim.certificate)} was refused with it, last {moment(claim.last_refused)}: "
            f"{claim.last_reason}."
        )
    for claim in dossier.elsewhere:
        yield (
            f"Its certificate was refused as {claim.identity}, too, last {moment(claim.last_refused)}: "
            f"{claim.last_reason}."
        )
    if device is not None and device.contested is not None:
        yield f"Several keys claimed it by turns, last noticed {moment(device.contested)}."


def _about_certificate(dossier: Dossier, seen: SeenCertificate) -> Iterator[str]:
    yield (
        f"The certificate {named(seen.certificate)} holds no identity now. It was here first "
        f"{moment(seen.first_seen)}, last {moment(seen.last_seen)}{_from(seen.last_address)}; "
        f"refused {seen.refusals} times."
    )
    for link in dossier.links:
        yield f"It was admitted as {link.identity}, last {moment(link.last_admitted)}."
    for claim in dossier.claims:
        yield f"It was refused as {claim.identity}, last {moment(claim.last_refused)}: {claim.last_reason}."
    device = dossier.device
    if device is not None and device.holder is not None:
        yield (
            f"{device.identity} belongs to the certificate {named(device.holder)}, last admitted "
            f"{moment(device.last_admitted)}."
        )


def _about_now(live: Live | None) -> Iterator[str]:
    if live is None:
        return
    if live.contested:
        yield "At this moment several keys claim it by turns: no new key is taken until they stop for ten minutes."
    if live.remembered:
        yield "The edge admitted its holder within the last hour: when it comes again, Mender alone decides."
    if live.ledger != "ok":
        yield f"The edge's ledger is {live.ledger}: the newest events may be missing here."


def _steps(dossier: Dossier, claimant: Certificate, reason: RefusalReason) -> Iterator[str]:
    device = dossier.device
    identity = device.identity if device else next((claim.identity for claim in dossier.claims), "")
    if reason is RefusalReason.KEY_CHANGE_NEEDS_APPROVAL:
        yield (
            f"Find out whether certificate {claimant.serial} is that device's: re-flashed, a new board, a renewed "
            "certificate."
        )
        yield "If it is: accept its pending key in Mender. The device is admitted at its next try."
        yield (
            "Or let the edge do that, for one device or many: `mtls-ambassador devices adopt MANIFEST` with the line "
            f"{_manifest_line(identity, claimant)}"
        )
        if device is not None and device.holder is not None:
            yield (
                f"If the certificate {device.holder.serial} is gone for good, and the device is gone from Mender: "
                f"`mtls-ambassador devices forget {shlex.quote(identity)}` frees the identity."
            )
        yield "If nobody replaced anything, another device claims this identity: reject its pending key in Mender."
    elif reason is RefusalReason.CERTIFICATE_HAS_ANOTHER_IDENTITY:
        yield (
            "If the device's identity has changed: "
            f"`mtls-ambassador devices forget {claimant.serial}`, and it may take a new one."
        )


def _manifest_line(identity: str, certificate: Certificate) -> str:
    try:
        value = json.loads(identity)
    except ValueError:  # a very long one, of which only the beginning is kept
        value = "..."
    return json.dumps({"identity": value, "fingerprint": certificate.fingerprint})


def named(certificate: Certificate) -> str:
    """A certificate as a person looks for it."""
    return f"with serial {certificate.serial} ({certificate.subject or 'no subject'})"


def moment(at: dt.datetime | None) -> str:
    """A time as a person reads it."""
    return "never" if at is None else f"on {at:%Y-%m-%d at %H:%M:%S} UTC"


def _from(address: str) -> str:
    return f" from {address}" if address else ""
