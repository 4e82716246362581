"""deployments: which device is to install what, and what became of it.

Source: Mender deployments, app/app.go; devices API v1, management API v1.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtls_ambassador.lab.server.artifacts import Artifacts
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
from mtls_ambassador.lab.server.records import rfc3339
from mtls_ambassador.lab.server.refusals import Refusal


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
class Deployments:
    """The service.

    Attributes:
        store: Where the deployments are.
        artifacts: What can be installed.
        accepted: Ids of all accepted devices.
        clock: Seconds since the epoch.
    """

    store: DeploymentStore
    artifacts: Artifacts
    accepted: Callable[[], Sequence[str]]
    clock: Callable[[], float]

    def create(
        self,
        name: str,
        artifact_name: str,
        devices: Sequence[str],
        *,
        all_devices: bool = False,
        force_installation: bool = False,
    ) -> str:
        """Create a deployment and return its id.

        Args:
            name: The operator's.
            artifact_name: What to install; each device gets the artifact of that name for its type.
            devices: Ids, unless `all_devices`: then all that are accepted now.
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
        if not devices and not all_devices:
            raise Refusal(400, f"{definition} provide list of devices or set all_devices flag")
        if devices and all_devices:
            raise Refusal(400, f"{definition} list of devices provided togheter with all_devices flag")  # sic
        targets = list(self.accepted()) if all_devices else list(dict.fromkeys(devices))
        if not targets:
            raise Refusal(400, "No devices for the deployment")
        if not self.artifacts.store.artifacts(artifact_name):
            raise Refusal(422, "No artifact for the deployment")
        now = rfc3339(self.clock())
        deployment = Deployment(0, str(uuid.uuid4()), name, artifact_name, force_installation, now, None)
        same = json.dumps([name, artifact_name, targets, all_devices, force_installation])
        if not self.store.add(deployment, targets, hashlib.sha256(same.encode()).hexdigest()):
            raise Refusal(
                409,
                "Invalid deployment definition: there is already an active deployment with the same parameters",
            )
        return deployment.id

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

    def next_for(self, device_id: str, provides: Provides) -> tuple[str, Artifact] | None:
        """The deployment (its id) and artifact that a device is to install; None: nothing to do.

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
        artifact = self._assigned(state, deployment, provides)
        if artifact is None:
            self._set_status(state, NO_ARTIFACT)
            return None
        installed = artifact.name == provides.artifact_name and not deployment.force_installation
        if installed and state.status == PENDING:
            self._set_status(state, ALREADY_INSTALLED)
            return None
        return deployment.id, artifact

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
