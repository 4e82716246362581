"""Whether it is safe to let binding rules refuse: what was observed, and the advice. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """What the ledger says about a time under `mode: warn`."""

    since: dt.datetime
    begins: dt.datetime | None
    """When the history begins; None: there is none."""
    would_refuse: int
    """Identities that a rule would have refused since."""
    came: int
    """Devices admitted since."""
    devices: int
    """All devices."""
    mode: str | None
    """Of the running edge's binding; None: nobody can say."""

    @property
    def safe(self) -> bool:
        """Whether every device that there is came in that time, and none of them would have been refused."""
        covered = self.begins is not None and self.begins <= self.since
        return covered and self.would_refuse == 0 and 0 < self.came == self.devices and self.mode in (None, "warn")


def mode_of(modes: Iterable[str]) -> str:
    """The mode that the report is about, where each trust anchor has its own: `warn` where there is one."""
    found = set(modes)
    return next((mode for mode in ("warn", "refuse") if mode in found), "off")


def advice(observed: Observed) -> str:
    """What to do, in plain words."""
    since = f"{observed.since:%Y-%m-%d %H:%M} UTC"
    if observed.mode == "off":
        return "This edge has no binding rules, or their mode is off: nothing is compared. Begin with `mode: warn`."
    if observed.mode == "refuse":
        return "This edge's binding is in mode refuse already: see `devices list --refused`."
    condition = "" if observed.mode else " This holds if binding was in mode warn all the time."
    if observed.would_refuse:
        count = "1 identity" if observed.would_refuse == 1 else f"{observed.would_refuse} identities"
        return (
            f"{count} would have been refused since {since}. Mend the rules, or issue those devices certificates "
            "that fit; a device that should not have its identity is what the rule is for. Then look again."
        )
    if observed.begins is None or observed.begins > observed.since:
        begins = f"begins {observed.begins:%Y-%m-%d %H:%M} UTC" if observed.begins else "is empty"
        return (
            f"Nothing would have been refused, but the history {begins}, after {since}. Devices authenticate at least "
            "once a week: wait until it covers that time, or name a later --since."
        )
    if observed.came < observed.devices or not observed.came:
        return (
            f"Nothing would have been refused since {since}, but only {observed.came} of {observed.devices} devices "
            "were admitted in that time; of the others nobody knows. Wait for them, or turn refuse on knowing that."
            f"{condition}"
        )
    return (
        f"Nothing would have been refused since {since}, in which all {observed.devices} devices were admitted. It is "
        f"safe to set `mode: refuse`.{condition}"
    )
