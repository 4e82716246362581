"""deviceconfig: what devices are to be configured with, and what they say they are.

Source: Mender deviceconfig, devices API v1 and management API v1. As in the real server, a configuration reaches a
device only when it is deployed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mtls_ambassador.lab.server.configuration_store import ConfigurationStore, DeviceConfiguration
from mtls_ambassador.lab.server.godecode import Json, Object
from mtls_ambassador.lab.server.records import rfc3339
from mtls_ambassador.lab.server.refusals import Refusal

_LONGEST = 4096  # bytes of a name or value
_MOST = 100


@dataclass(frozen=True)
class Deviceconfig:
    """The service.

    Attributes:
        store: Where the configurations are.
        create_deployment: Deploys a configuration to a device and returns the deployment's id.
        call: Has a device ask for deployments, if it is connected.
        clock: Seconds since the epoch.
    """

    store: ConfigurationStore
    create_deployment: Callable[[str, Mapping[str, str]], str]
    call: Callable[[str], Awaitable[None]]
    clock: Callable[[], float]

    def configuration(self, device_id: str) -> DeviceConfiguration:
        """What is known of a device.

        Raises:
            Refusal: 404, it was never configured, nor has it reported.
        """
        found = self.store.configuration(device_id)
        if found is None:
            raise Refusal(404, "device does not exist")
        return found

    def configure(self, device_id: str, values: Mapping[str, str]) -> None:
        """Say what a device is to have; it is not told before `deploy`."""
        self.store.configure(device_id, values, rfc3339(self.clock()))

    def report(self, device_id: str, values: Mapping[str, str]) -> None:
        """Take what a device says it has."""
        self.store.report(device_id, values, rfc3339(self.clock()))

    async def deploy(self, device_id: str) -> str:
        """Deploy to a device what it is to have, and return the deployment's id.

        Raises:
            Refusal: 404, it was never configured.
        """
        deployment_id = self.create_deployment(device_id, self.configuration(device_id).configured)
        self.store.set_deployment(device_id, deployment_id)
        await self.call(device_id)
        return deployment_id


def parse_configuration(body: Json) -> dict[str, str]:
    """A configuration as operators and devices send it: one object of texts.

    Raises:
        Refusal: 400, it has another form, or is too large.
    """
    if not isinstance(body, Object):
        raise Refusal(400, "malformed request body: not an object")
    found: dict[str, str] = {}
    for name, value in body.members:
        if not name:
            raise Refusal(400, "invalid request body: key: cannot be blank.")
        if not isinstance(value, str) or max(len(name.encode()), len(value.encode())) > _LONGEST:
            raise Refusal(400, f"invalid request body: values are strings of at most {_LONGEST} bytes")
        found[name] = value
    if len(found) > _MOST:
        raise Refusal(400, f"invalid request body: at most {_MOST} values")
    return found
