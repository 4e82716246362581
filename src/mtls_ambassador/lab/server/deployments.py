"""deployments: which device is to install what, and what became of it.

Source: Mender deployments, app/app.go; devices API v1, management API v1.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtls_ambassador.lab.server.artifacts import Artifacts, Link
from mtls_ambassador.lab.server.configuration_artifact import configuration_artifact
from mtls_ambassador.lab.server.deployment_records import Artifact, Deployment, DeviceDeployment
from mtls_ambassador.lab.server.deployment_rules import (
    ABORTED,
    ALREADY_INSTALLED,
    DECOMMISSIONED,
    FAILURE,
    FINAL,
    FROM_DEVICES,
    NO_ARTIFACT,
    PENDING,
    all_final,
    deployment_status,
    statistics,
)
from mtls_ambassador.lab.server.deployment_store import DeploymentStore
from mtls_ambassador.lab.server.goencode import marshal
from mtls_ambassador.lab.server.records import rfc3339
from mtls_ambassador.lab.server.refusals import Refusal

CONFIGURATION_DOWNLOADS = "/api/devices/v1/deployments/download/configuration"
_ARTIFACT_LINK, _CONFIGURATION_LINK = 86400.0, 900.0  # seconds


@dataclass(frozen=True)
class Provides:
    """What a device says it has: artifact name, device type, and the rest."""

    artifact_name: str
    device_type: str
    others: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """In one form, to be kept and compared."""
        return json.dumps([self.artifact_name, self.device_type, sorted(self.others)])


@dataclass(frozen=True)
class Instructions:
    """What a device is told to install, and where it gets that."""

    deployment_id: str
    artifact_id: str
    artifact_name: str
    device_types: tuple[str, ...]
    link: Link


@dataclass(frozen=True)
class Deployments:
    """The service.

    Attributes:
        store: Where the deployments are.
        artifacts: What can be installed.
        accepted: Ids of all accepted devices, or of those of a group.
        clock: Seconds since the epoch.
    """

    store: DeploymentStore
    artifacts: Artifacts
    accepted: Callable[[str | None], Sequence[str]]
    clock: Callable[[], float]

    def create(
        self,
        name: str,
        artifact_name: str,
        devices: Sequence[str] = (),
        *,
        group: str | None = None,
        all_devices: bool = False,
        force_installation: bool = False,
    ) -> str:
        """Create a deployment and return its id.

        Args:
            name: The operator's.
            artifact_name: What to install; each device gets the artifact of that name for its type.
            devices: Ids, unless `group` or `all_devices`: then those of the group, or all, that are accepted now.
            group: See `devices`.
            all_devices: See `devices`.
            force_installation: Even where an artifact of that name is installed already.

        Raises:
            Refusal: 400 something is missing or contradicts, 422 no artifact of that name, 409 the same is under way.
        """
        for field, value in (("name", name), ("artifact_name", artifact_name)):
            if not 1 <= len(value.encode()) <= 4096:
                raise Refusal(400, f"Validating request body: {field}: the length must be between 1 and 4096.")
        if not all(devices):
            raise Refusal(400, "Validating request body: devices: cannot be blank.")
        definition = "Validating request body: Invalid deployments definition:"
        if group is not None:
            if devices or all_devices:
                raise Refusal(
                    400,
                    "Validating request body: The deployment for group constructor should have neither list of devices"
                    " nor all_devices flag set",
                )
        elif not devices and not all_devices:
            raise Refusal(400, f"{definition} provide list of devices or set all_devices flag")
        elif devices and all_devices:
            raise Refusal(400, f"{definition} list of devices provided togheter with all_devices flag")  # sic
        targets = list(dict.fromkeys(devices)) if devices else list(self.accepted(group))
        if not targets:
            raise Refusal(400, "No devices for the deployment")
        if not self.artifacts.store.artifacts(artifact_name):
            raise Refusal(422, "No artifact for the deployment")
        now = rfc3339(self.clock())
        deployment = Deployment(0, str(uuid.uuid4()), name, artifact_name, force_installation, now, None, group)
        same = json.dumps([name, artifact_name, targets, all_devices, force_installation])
        if not self.store.add(deployment, targets, hashlib.sha256(same.encode()).hexdigest()):
            raise Refusal(
                409,
                "Invalid deployment definition: there is already an active deployment with the same parameters",
            )
        return deployment.id

    def create_configuration(self, device_id: str, values: Mapping[str, str]) -> str:
        """Deploy a configuration to a device, and return the deployment's id.

        Name and artifact name are what the real server's workflow gives it (deploy_device_configuration).
        """
        deployment_id, now = str(uuid.uuid4()), rfc3339(self.clock())
        name, text = f"configuration-{deployment_id}", marshal(dict(values), sort_keys=True)
        deployment = Deployment(
            0, deployment_id, name, name, force_installation=False, created=now, finished=None, configuration=text
        )
        self.store.add(deployment, [device_id], deployment_id)  # each is another one, so none is in its way
        return deployment_id

    def deployment(self, deployment_id: str) -> Deployment:
        """A deployment.

        Raises:
            Refusal: 404.
        """
        found = self.store.deployment(deployment_id)
        if found is None:
            raise Refusal(404, "Resource not found")
        return found

    def counts(self, deployment: Deployment) -> dict[str, int]:
        """How many devices of a deployment have each status."""
        return statistics(self.store.statuses(deployment.id))

    def status(self, deployment: Deployment) -> str:
        """pending, inprogress or finished."""
        return deployment_status(self.counts(deployment), finished=deployment.finished is not None)

    def abort(self, deployment_id: str) -> None:
        """Abort a deployment: what devices report of it from now on is refused.

        Raises:
            Refusal: 422, there is none of that id that is not finished.
        """
        found = self.store.deployment(deployment_id)
        if found is None or found.finished is not None:
            raise Refusal(422, "Deployment already finished")
        now = rfc3339(self.clock())
        self.store.abort(deployment_id, now)
        self.store.finish(deployment_id, now)

    def decommission(self, device_id: str) -> None:
        """End what a device was to do, as it is no more."""
        for deployment_id in self.store.decommission(device_id, rfc3339(self.clock())):
            self._finish_if_all_are_final(deployment_id)

    def next_for(self, device_id: str, provides: Provides) -> Instructions | None:
        """What a device is to install; None: nothing.

        Raises:
            Refusal: 409, it says it provides something else than when it asked first; so the deployment has failed.
        """
        state = self.store.next_for(device_id)
        if state is None:
            return None
        if state.request is None:
            self.store.start(state, provides.text(), rfc3339(self.clock()))
        elif state.request != provides.text():
            self._set_status(state, FAILURE)
            raise Refusal(409, "Device provided conflicting request data")
        deployment = self.deployment(state.deployment_id)
        if deployment.configuration is not None:
            path = f"{CONFIGURATION_DOWNLOADS}/{deployment.id}/{provides.device_type}/{device_id}"
            return Instructions(
                deployment.id,
                f"{deployment.id}{device_id}",
                deployment.artifact_name,
                (provides.device_type,),
                self.artifacts.sign(path, _CONFIGURATION_LINK),
            )
        artifact = self._assigned(state, deployment, provides)
        if artifact is None:
            self._set_status(state, NO_ARTIFACT)
            return None
        installed = artifact.name == provides.artifact_name and not deployment.force_installation
        if installed and state.status == PENDING:
            self._set_status(state, ALREADY_INSTALLED)
            return None
        link = self.artifacts.link(artifact, _ARTIFACT_LINK)
        return Instructions(deployment.id, artifact.id, artifact.name, artifact.device_types, link)

    def configuration_artifact(self, deployment_id: str, device_type: str, device_id: str) -> bytes:
        """The artifact of a configuration deployment for a device of that type.

        Raises:
            Refusal: 404, there is no such deployment to that device.
        """
        deployment = self.store.deployment(deployment_id)
        known = deployment is not None and self.store.on_device(deployment_id, device_id) is not None
        if deployment is None or deployment.configuration is None or not known:
            raise Refusal(404, f"deployment with id '{deployment_id}' not found")
        return configuration_artifact(deployment.artifact_name, device_type, deployment.configuration)

    def report(self, device_id: str, deployment_id: str, status: str, substate: str) -> None:
        """Take what a device says about its progress.

        Raises:
            Refusal: 400 not a status of devices, 404, 409 the deployment was aborted or the device decommissioned.
        """
        if status not in FROM_DEVICES:
            raise Refusal(400, f"invalid status for device '{status}'")
        if len(substate.encode()) > 200:
            raise Refusal(400, "substate: the length must be no more than 200.")
        state = self._on_device(device_id, deployment_id, "Resource not found")
        if state.status == ABORTED:
            raise Refusal(409, "Deployment aborted")
        if state.status == DECOMMISSIONED:
            raise Refusal(409, "Device decommissioned")
        if status != state.status:
            self._set_status(state, status, substate)

    def keep_log(self, device_id: str, deployment_id: str, log: str) -> None:
        """Keep a device's log of a deployment.

        Raises:
            Refusal: 404.
        """
        self.store.set_log(self._on_device(device_id, deployment_id, "Deployment not found"), log)

    def _on_device(self, device_id: str, deployment_id: str, failure: str) -> DeviceDeployment:
        found = self.store.on_device(deployment_id, device_id)
        if found is None or found.request is None:
            raise Refusal(404, failure)
        return found

    def _assigned(self, state: DeviceDeployment, deployment: Deployment, provides: Provides) -> Artifact | None:
        """The artifact for a device; it stays the same once it was told."""
        known = self.artifacts.store.artifact(state.artifact_id) if state.artifact_id else None
        if known is not None:
            return known
        found = self.artifacts.for_device(deployment.artifact_name, provides.device_type)
        if found is not None:
            self.store.assign(state, found.id)
        return found

    def _set_status(self, state: DeviceDeployment, status: str, substate: str = "") -> None:
        self.store.set_status(state, status, substate, rfc3339(self.clock()) if status in FINAL else None)
        self._finish_if_all_are_final(state.deployment_id)

    def _finish_if_all_are_final(self, deployment_id: str) -> None:
        deployment = self.deployment(deployment_id)
        if deployment.finished is None and all_final(self.counts(deployment)):
            self.store.finish(deployment_id, rfc3339(self.clock()))
