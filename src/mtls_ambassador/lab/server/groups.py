"""Groups of devices. A device is in one at most, and a group is there as long as a device is in it.

Source: Mender inventory, management API v1; the group is the attribute `group` of scope system.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mtls_ambassador.lab.server.inventory import IDENTITY, SYSTEM
from mtls_ambassador.lab.server.inventory_store import InventoryStore
from mtls_ambassador.lab.server.records import Attribute
from mtls_ambassador.lab.server.refusals import Refusal

GROUP = "group"
_NAME = re.compile(r"[A-Za-z0-9_-]*")
_LONGEST = 1024


@dataclass(frozen=True)
class Changed:
    """How many of the named devices there are (`matched`), and how many changed (`updated`)."""

    matched: int
    updated: int


@dataclass(frozen=True)
class Groups:
    """The groups; `store` holds all attributes of devices."""

    store: InventoryStore

    def of(self, device_id: str) -> str | None:
        """The group of a device, None if it is in none.

        Raises:
            Refusal: 404, there is no such device.
        """
        self._check_known(device_id)
        return self._groups().get(device_id)

    def names(self, status: str = "") -> list[str]:
        """The groups that a device is in; with `status` one of that status."""
        statuses = self.store.values(IDENTITY, "status") if status else {}
        return sorted({name for device_id, name in self._groups().items() if statuses.get(device_id, "") == status})

    def members(self, name: str) -> list[str]:
        """The ids of the devices of a group, sorted."""
        return [device_id for device_id, group in self._groups().items() if group == name]

    def put(self, device_id: str, name: str) -> None:
        """Put a device into a group, out of the one it was in.

        Raises:
            Refusal: 400 that cannot be a group's name, 404 there is no such device.
        """
        check_name(name)
        self._check_known(device_id)
        self.join([device_id], name)

    def take(self, device_id: str, name: str) -> None:
        """Take a device out of a group.

        Raises:
            Refusal: 404, it is not in that.
        """
        if not self.leave([device_id], name).matched:
            raise _unknown()

    def join(self, device_ids: Sequence[str], name: str) -> Changed:
        """Put devices into a group; those that do not exist are passed over.

        Raises:
            Refusal: 400, that cannot be a group's name.
        """
        check_name(name)
        groups = self._groups()
        known = [device_id for device_id in dict.fromkeys(device_ids) if self.store.times(device_id) is not None]
        changed = [device_id for device_id in known if groups.get(device_id) != name]
        for device_id in changed:
            self.store.write(device_id, Attribute(SYSTEM, GROUP, name))
        return Changed(len(known), len(changed))

    def leave(self, device_ids: Sequence[str], name: str) -> Changed:
        """Take devices out of a group; those that are not in it are passed over.

        Raises:
            Refusal: 400, that cannot be a group's name.
        """
        check_name(name)
        leaving = set(self.members(name)) & set(device_ids)
        for device_id in leaving:
            self.store.erase(device_id, SYSTEM, GROUP)
        return Changed(len(leaving), len(leaving))

    def _groups(self) -> dict[str, str]:
        return {device_id: str(name) for device_id, name in self.store.values(SYSTEM, GROUP).items()}

    def _check_known(self, device_id: str) -> None:
        if self.store.times(device_id) is None:
            raise _unknown()


def check_name(name: str) -> None:
    """Check the name of a group.

    Raises:
        Refusal: 400.
    """
    if not name:
        raise Refusal(400, "Group name cannot be blank")
    if len(name) > _LONGEST:
        raise Refusal(400, f"Group name can at most have {_LONGEST} characters")
    if not _NAME.fullmatch(name):
        raise Refusal(400, "Group name can only contain: upper/lowercase alphanum, -(dash), _(underscore)")


def _unknown() -> Refusal:
    return Refusal(404, "Device not found")
