"""inventory: what devices report about themselves, and what other services note about them.

Source: Mender inventory, devices API v1, management API v1 and v2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtls_ambassador.lab.server.inventory_store import InventoryStore
from mtls_ambassador.lab.server.records import Attribute, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal

_LIMIT_ATTRIBUTES = 100
INVENTORY, IDENTITY, SYSTEM = "inventory", "identity", "system"


@dataclass(frozen=True)
class InventoryDevice:
    """A device as inventory shows it; `updated` is RFC 3339."""

    id: str
    attributes: tuple[Attribute, ...]
    updated: str

    def value(self, scope: str, name: str) -> object:
        """The value of an attribute, None if the device does not have it."""
        return next((item.value for item in self.attributes if (item.scope, item.name) == (scope, name)), None)


@dataclass(frozen=True)
class Inventory:
    """The service; `clock` gives seconds since the epoch."""

    store: InventoryStore
    clock: Callable[[], float]

    def report(self, device_id: str, attributes: Sequence[Attribute], *, replace: bool) -> None:
        """Write what a device reports of itself, all in scope inventory; with `replace` the others are removed.

        Raises:
            Refusal: 400, the device would have more than 100 attributes.
        """
        names = {item.name for item in attributes}
        if not replace:
            names |= {item.name for item in self.store.attributes(device_id) if item.scope == INVENTORY}
        if len(names) > _LIMIT_ATTRIBUTES:
            raise Refusal(400, "maximum number of attributes exceeded")
        if replace:
            self.store.clear(device_id, INVENTORY)
        self._put(device_id, attributes)

    def put_identity(self, device_id: str, identity: Mapping[str, object] | None) -> None:
        """Copy a device's identity; a member called status would hide the device's status and is left out."""
        members = (identity or {}).items()
        self._put(device_id, [Attribute(IDENTITY, name, value) for name, value in members if name != "status"])

    def put_status(self, device_id: str, status: str) -> None:
        """Copy a device's status."""
        self._put(device_id, [Attribute(IDENTITY, "status", status)])

    def put_check_in(self, device_id: str, now: str) -> None:
        """Copy when a device was last seen."""
        self._put(device_id, [Attribute(SYSTEM, "check_in_time", now)])

    def remove(self, device_id: str) -> None:
        """Forget a device."""
        self.store.delete(device_id)

    def device(self, device_id: str) -> InventoryDevice | None:
        """One device."""
        return next(iter(self._devices([device_id])), None)

    def devices(self) -> list[InventoryDevice]:
        """All devices, by id."""
        return self._devices(self.store.device_ids())

    def _put(self, device_id: str, attributes: Sequence[Attribute]) -> None:
        self.store.put(device_id, attributes, rfc3339(self.clock()))

    def _devices(self, ids: Sequence[str]) -> list[InventoryDevice]:
        found = []
        for device_id in ids:
            times = self.store.times(device_id)
            if times is not None:
                created, updated = times
                system = (Attribute(SYSTEM, "created_ts", created), Attribute(SYSTEM, "updated_ts", updated))
                found.append(InventoryDevice(device_id, (*self.store.attributes(device_id), *system), updated))
        return found
