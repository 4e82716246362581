"""Who gives a command: the user whom the kernel names, and the one behind `sudo`, as far as it says so."""

from __future__ import annotations

import pwd
import re
from dataclasses import dataclass

SUDO_HEADER = "x-sudo-uid"
"""On the control socket: what `sudo` says of who called it."""

_UID = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Operator:
    """A user of this machine."""

    uid: int
    """As the kernel has it."""
    name: str | None
    """Of that user; None: this machine knows none."""
    sudo_uid: int | None = None
    """As `sudo` has left it in the command's environment, which whoever is `uid` can set as he likes."""

    def __str__(self) -> str:
        user = f"{self.name} (uid {self.uid})" if self.name else f"uid {self.uid}"
        return user if self.sudo_uid is None else f"{user}, by sudo from uid {self.sudo_uid} as SUDO_UID says"


def operator(uid: int, sudo_uid: str | None = None) -> Operator:
    """The operator with this uid. Asks the machine's user database, which may take its time.

    Args:
        uid: As the kernel has it.
        sudo_uid: What `SUDO_UID` says; ignored if it is no number.
    """
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        name = None
    return Operator(uid, name, int(sudo_uid) if sudo_uid and _UID.fullmatch(sudo_uid) else None)
