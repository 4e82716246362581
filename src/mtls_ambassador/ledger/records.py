"""What goes into the ledger and what comes out of it. Frozen data only; identities are in Mender's normal form."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the ledger keeps of a client certificate."""

    fingerprint: str
    """SHA-256 of the certificate, lower-case hex."""
    key: str
    """SHA-256 of its SubjectPublicKeyInfo (DER), lower-case hex."""
    subject: str
    """RFC 4514 text; may be empty."""
    issuer: str
    """RFC 4514 text."""
    serial: str
    """Lower-case hex in whole bytes."""
    anchor: str
    """Name of the trust anchor that verified it."""
    not_before: dt.datetime
    """With its time zone."""
    not_after: dt.datetime
    """With its time zone."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody with a verified certificate says who he is."""

    identity: str
    """Normal form."""
    certificate: Certificate
    auth_key: str
    """SHA-256 of the auth request's key (SubjectPublicKeyInfo, DER), lower-case hex. The certificate's own, usually."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose an identity is: the certificate it was last admitted with."""

    certificate: Certificate
    mender_id: str | None
    """Mender's id of the device then; another one now means that it was decommissioned in between."""
    admitted_at: dt.datetime
    """When it was last admitted. With its time zone."""


class AdoptionKind(StrEnum):
    """By what an operator named the certificate that an identity belongs to."""

    SUBJECT = "subject"
    FINGERPRINT = "fingerprint"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Adoption:
    """An operator's word that an identity belongs to a certificate, though the ledger never saw the two together."""

    identity: str
    kind: AdoptionKind
    value: str
    """RFC 4514 subject, or SHA-256 (lower-case hex) of the certificate or of its SubjectPublicKeyInfo."""

    def names(self, certificate: Certificate) -> bool:
        """Whether `certificate` is the one that is meant."""
        named = {
            AdoptionKind.SUBJECT: certificate.subject,
            AdoptionKind.FINGERPRINT: certificate.fingerprint,
            AdoptionKind.KEY: certificate.key,
        }
        return bool(self.value) and named[self.kind] == self.value


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger knows about a claim. Nothing at all, for a device it has never seen."""

    known: bool = False
    """This identity was admitted with this certificate and this auth key, and nobody has taken it over since."""
    holder: Holder | None = None
    """Whose the identity is; None: nobody's so far."""
    other_identities: tuple[str, ...] = ()
    """Other identities that this certificate, or another with its key, was admitted with; a few of them at most."""
    subject_is_shared: bool = False
    """A certificate of this subject and issuer was admitted, or refused, with another identity, at whatever anchor."""
    adoption: Adoption | None = None
    """The operator's word about this identity, until the certificate it names was admitted."""
    auth_key_is_anothers: bool = False
    """The auth key was admitted with a certificate of another key; only where `require_same_key` is off."""


class EventKind(StrEnum):
    """What happened."""

    ADMITTED = "admitted"
    """Mender gave the device a token."""
    PREAUTHORISED = "preauthorised"
    """The edge preauthorised the key in Mender, which did not know the identity: the certificate has it from now on."""
    REFUSED = "refused"
    """By the edge, or by Mender for a reason that the edge knows (`reason`)."""
    ANSWERED = "answered"
    """Mender answered neither 200 nor anything we know a reason for."""
    ACCEPTED = "accepted"
    """The edge accepted a pending key in Mender that nothing spoke against."""
    ROTATED = "rotated"
    """The edge accepted a new key in Mender, in place of the one before."""
    ADOPTED = "adopted"
    """The edge accepted a key in Mender since an operator had said so (a manifest, or `adopt_until`)."""
    READMITTED = "readmitted_after_decommission"
    """A device that Mender had removed came back with a valid certificate."""
    WARNED = "binding_warned"
    """The certificate does not match the identity; with `mode: refuse` the device would have been refused."""
    CONTESTED = "identity_contested"
    """Several keys claim one identity by turns."""
    ADOPTION_NOTED = "adoption_noted"
    """An operator said to whom an identity belongs."""
    FORGOTTEN = "forgotten"
    """An operator made the ledger forget an identity or a certificate, or (both given) that the two belong together."""
    KEY_SHARED = "key_shared"
    """A certificate's key was admitted with a second identity, as two nodes at the same time can bring about."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history, and what else is to be remembered of it."""

    at: dt.datetime
    """With its time zone."""
    kind: EventKind
    request_id: str = ""
    address: str = ""
    """The client's address and port."""
    identity: str | None = None
    """Normal form, once it is known."""
    certificate: Certificate | None = None
    auth_key: str | None = None
    """As in `Claim`."""
    reason: str | None = None
    """Label of the refusal reason."""
    detail: str = ""
    """More, for a person; no secrets."""
    mender_id: str | None = None
    mender_status: int | None = None
    """HTTP status of Mender's answer: to the auth request, or to what the edge itself did in Mender (`PREAUTHORISED`,
    `ACCEPTED`, `ROTATED`, `ADOPTED`)."""
    rule: str | None = None
    """The binding rule, setting or adoption that decided, or the fact that an admission rests on."""
    adoption: Adoption | None = None
    """What the operator said (`ADOPTION_NOTED`)."""
    token_of: str | None = None
    """SHA-256 (lower-case hex) of the certificate that the token was handed out to, which this one showed."""
    left_out: int = 0
    """How many like it came before that nobody was told of."""
