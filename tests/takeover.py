"""What becomes of a device that claims another's identity: every case, and what has to come of it.

The table in docs/reference/takeover.md is written from `expected`; tests/integration/test_takeover.py plays every case
against the real edge and holds it to the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from mtls_ambassador.admission.standing import Rotation
from mtls_ambassador.refusals import RefusalReason


class AtMender(StrEnum):
    """What Mender knows of B when A comes."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    PREAUTHORIZED = "preauthorised"
    ACCEPTED = "accepted"
    REJECTED = "rejected by the operator"


class Attacker(StrEnum):
    """Who A is: always a device with a valid certificate of the same CA."""

    WITH_ITS_OWN_IDENTITY = "admitted as another device before"
    FRESH = "fresh, another subject"
    NAMELESS = "fresh, B and it have an empty subject"
    OF_A_SHARED_SUBJECT = "fresh, a subject that the whole fleet has"
    SAME_SUBJECT_LATER = "fresh, B's subject, issued later"
    SAME_SUBJECT_EARLIER = "fresh, B's subject, issued earlier"


class Binding(StrEnum):
    """The binding rule's mode; the rule is one that only B's certificate matches."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Setting:
    """What the owner set."""

    binding: Binding = Binding.OFF
    rotation: Rotation = Rotation.SAME_SUBJECT
    adopts: bool = False
    """Whether `adopt_until` is set, and its date has not come."""


ADOPTING = Setting(adopts=True)
SETTINGS = (*itertools.starmap(Setting, itertools.product(Binding, Rotation)), ADOPTING)


@dataclass(frozen=True)
class Case:
    """One case."""

    setting: Setting
    at_mender: AtMender
    in_ledger: bool
    """Whether B was admitted through this edge before."""
    attacker: Attacker


def cases(setting: Setting) -> Iterator[Case]:
    """All cases of one setting."""
    for at_mender, in_ledger, attacker in itertools.product(AtMender, (False, True), Attacker):
        yield Case(setting, at_mender, in_ledger, attacker)


def expected(case: Case) -> RefusalReason | None:
    """Why A does not get B's identity; None: it does."""
    if case.setting.binding is Binding.REFUSE:
        return RefusalReason.IDENTITY_MISMATCH
    if case.attacker is Attacker.WITH_ITS_OWN_IDENTITY:
        return RefusalReason.CERTIFICATE_HAS_ANOTHER_IDENTITY
    if case.at_mender is AtMender.REJECTED:
        return RefusalReason.REJECTED_BY_OPERATOR
    if case.at_mender is AtMender.UNKNOWN and not case.in_ledger:
        return None  # nobody has it
    if case.setting.rotation is Rotation.ANY:
        return None
    successor = case.in_ledger and case.attacker is Attacker.SAME_SUBJECT_LATER
    if case.setting.rotation is Rotation.SAME_SUBJECT and successor:
        return None  # the CA says that it is the same device, with a newer certificate
    if adoptable(case):
        return None  # the owner said that the first to come is the device
    return RefusalReason.KEY_CHANGE_NEEDS_APPROVAL


def adoptable(case: Case) -> bool:
    """Whether B is a device that `adopt_until` is for: Mender accepts it, and it never came through the edge."""
    return case.setting.adopts and case.at_mender is AtMender.ACCEPTED and not case.in_ledger


def somebody_has_it(case: Case) -> bool:
    """Whether B's identity is anybody's when A comes."""
    return case.in_ledger or case.at_mender is not AtMender.UNKNOWN


def table() -> str:
    """The outcomes as Markdown: one table for each rotation setting and for `adopt_until`, without a binding rule."""
    tables = {
        f"`rotation: {rotation}`{' (default)' if rotation is Rotation.SAME_SUBJECT else ''}": Setting(rotation=rotation)
        for rotation in Rotation
    }
    tables["`rotation: same-subject`, and `adopt_until` with a date that has not come"] = ADOPTING
    return "\n\n".join(_table(title, setting) for title, setting in tables.items())


def _table(title: str, setting: Setting) -> str:
    lines = [
        f"### {title}",
        "",
        "| B at Mender | B in the ledger | " + " | ".join(f"A: {attacker}" for attacker in Attacker) + " |",
        "|---|---|" + "---|" * len(Attacker),
    ]
    rows = itertools.groupby(cases(setting), lambda case: (case.at_mender, case.in_ledger))
    for (at_mender, in_ledger), group in rows:
        cells = [f"`{reason.label}`" if (reason := expected(case)) else "**admitted as B**" for case in group]
        lines.append(f"| {at_mender} | {'yes' if in_ledger else 'no'} | {' | '.join(cells)} |")
    return "\n".join(lines)
