"""What a claim to an identity rests on, as far as the ledger and the owner's settings say. Pure.

Mender's own word comes later, in `decision`: a standing only says what may be done with it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.ledger.records import AdoptionKind, Certificate, Claim, Facts
from mtls_ambassador.refusals import RefusalReason


class Rotation(StrEnum):
    """When a new certificate may take the place of an identity's earlier one, without an operator."""

    SAME_SUBJECT = "same-subject"
    """The CA gave the new one the same subject, which no other identity has, and later."""
    ANY = "any"
    """Always: whoever holds a valid certificate may take over any identity. mender-gateway's way."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms one trust anchor's certificates are admitted."""

    rotation: Rotation = Rotation.SAME_SUBJECT
    one_identity: bool = True
    """A certificate (and its key) is good for the first identity it was admitted with, and no other."""
    adopt_until: dt.datetime | None = None
    """Until then, the first certificate to claim an identity that Mender accepts already makes it its own."""
    subjects_are_unique: bool = True
    """False with several trust anchors, whose CAs know nothing of each other: then no adoption by subject counts."""


class Ground(StrEnum):
    """What a claim rests on."""

    OWN = "own"
    """The identity was last admitted with this very certificate, or with its key."""
    FREE = "free"
    """The ledger knows nobody who has it. Mender may."""
    ADOPTION = "adoption"
    """An operator said that it belongs to this certificate."""
    ADOPT_UNTIL = "adopt_until"
    """The ledger knows nobody who has it, and the first to come may take it from a key that Mender accepts."""
    ROTATION = "rotation"
    """Somebody has it, or Mender knows it, and the rotation setting allows this certificate to take over."""
    HELD = "held"
    """Somebody else has it."""
    CONTESTED = "contested"
    """Several keys claim it by turns, and this is not the holder's."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A claim's ground, and why it has no better one."""

    ground: Ground
    why: str
    """For a person: the setting, adoption or fact that decided."""
    setting: str | None = None
    """The setting that keeps it from a better ground, where `why` tells how."""

    @property
    def rule(self) -> str | None:
        """What decided if its key is not accepted: a setting or an operator's word; None: neither."""
        return self.why if self.may_take_over else self.setting

    @property
    def may_claim(self) -> bool:
        """Whether it may be preauthorised where Mender does not know the identity."""
        return self.ground not in (Ground.HELD, Ground.CONTESTED)

    @property
    def may_take_over(self) -> bool:
        """Whether its pending key may displace one that Mender trusts.

        Not of one's own identity: if Mender knows this key as pending and trusts another, an operator wanted it so.
        """
        return self.ground in (Ground.ADOPTION, Ground.ADOPT_UNTIL, Ground.ROTATION)

    @property
    def outranks_pending(self) -> bool:
        """Whether its pending key is accepted though another was pending before it."""
        return self.ground in (Ground.OWN, Ground.ADOPTION, Ground.ROTATION)

    @property
    def outranks_preauthorised(self) -> bool:
        """Whether taking over may do away with keys that wait preauthorised in Mender.

        Somebody prepared them for the device. Being the first to come is no reason to set that aside.
        """
        return self.ground in (Ground.ADOPTION, Ground.ROTATION)

    @property
    def refusal(self) -> RefusalReason:
        """Why its key is not accepted, if it is not."""
        if self.ground is Ground.CONTESTED:
            return RefusalReason.IDENTITY_CONTESTED
        return RefusalReason.KEY_CHANGE_NEEDS_APPROVAL


def require_own_identity(claim: Claim, facts: Facts, terms: Terms) -> None:
    """Refuse a certificate that belongs to another identity, before anything is asked of Mender.

    Raises:
        Refused: `certificate_has_another_identity`.
    """
    if terms.one_identity and facts.other_identities:
        raise Refused(
            RefusalReason.CERTIFICATE_HAS_ANOTHER_IDENTITY,
            f"it was admitted as {facts.other_identities[0]}, and claims to be {claim.identity}",
            rule="identities_per_certificate: 1",
        )


def stand(claim: Claim, facts: Facts, terms: Terms, now: dt.datetime) -> Standing:
    """What `claim` rests on.

    Args:
        claim: Identity and certificate; its own identity by `require_own_identity`.
        facts: What the ledger knows about it.
        terms: The owner's, for the claim's trust anchor.
        now: With its time zone.
    """
    certificate, holder, adoption = claim.certificate, facts.holder, facts.adoption
    if facts.known:
        return Standing(Ground.OWN, "admitted before, with this certificate")
    if holder is not None and holder.certificate.fingerprint == certificate.fingerprint:
        return Standing(Ground.OWN, "the same certificate with another authentication key")
    if holder is not None and holder.certificate.key == certificate.key == claim.auth_key:
        return Standing(Ground.OWN, "another certificate for the same key")
    if adoption is not None and adoption.names(certificate):
        if adoption.kind is not AdoptionKind.SUBJECT or (terms.subjects_are_unique and not facts.subject_is_shared):
            return Standing(Ground.ADOPTION, f"adopted by {adoption.kind} {adoption.value}")
        named = f"adopted by subject {adoption.value}"
        return Standing(Ground.HELD, f"{named}, which does not name one certificate alone", named)
    if holder is None:
        return _unheld(facts, terms, now)
    return _rotated(claim, holder.certificate, facts, terms)


def _unheld(facts: Facts, terms: Terms, now: dt.datetime) -> Standing:
    if facts.adoption is not None:
        named = f"adopted by {facts.adoption.kind} {facts.adoption.value}"
        return Standing(Ground.HELD, f"{named}, which is another certificate", named)
    if terms.rotation is Rotation.ANY:
        return Standing(Ground.ROTATION, "rotation: any")
    if terms.adopt_until is not None and now < terms.adopt_until:
        return Standing(Ground.ADOPT_UNTIL, f"adopt_until: {terms.adopt_until:%Y-%m-%d %H:%M %Z}")
    return Standing(Ground.FREE, "no certificate was admitted with this identity so far", f"rotation: {terms.rotation}")


def _rotated(claim: Claim, before: Certificate, facts: Facts, terms: Terms) -> Standing:
    setting = f"rotation: {terms.rotation}"
    if before.anchor != claim.certificate.anchor:
        obstacle, setting = f" of the trust anchor {before.anchor}, not {claim.certificate.anchor}", "trust_anchors"
    elif terms.rotation is Rotation.ANY:
        return Standing(Ground.ROTATION, setting)
    elif terms.rotation is Rotation.NEVER:
        obstacle = ", and rotation is never"
    else:
        obstacle = _obstacle(before, claim.certificate, facts)
    if not obstacle:
        return Standing(Ground.ROTATION, setting)
    return Standing(Ground.HELD, f"it belongs to the certificate with serial {before.serial}{obstacle}", setting)


def _obstacle(before: Certificate, after: Certificate, facts: Facts) -> str:
    """Why `after` does not succeed `before` as a later certificate of the same subject; empty: it does."""
    if not after.subject:
        return ", and the new certificate has no subject to compare"
    if (before.subject, before.issuer) != (after.subject, after.issuer):
        return f" and subject {before.subject!r} of {before.issuer!r}, not to this subject and issuer"
    if facts.subject_is_shared:
        return ", and certificates of this subject claim other identities too"
    if after.not_before <= before.not_before:
        return ", which was not issued before this one"
    return ""
