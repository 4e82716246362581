"""The embedded Mender Server as an object: started, looked into, operated."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from starlette.types import ASGIApp

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.remote_session import RemoteSession
from mtls_ambassador.lab.server.app import build_app
from mtls_ambassador.lab.server.artifact_store import ArtifactStore, artifact_directory
from mtls_ambassador.lab.server.artifacts import Artifacts, link_key
from mtls_ambassador.lab.server.configuration_store import ConfigurationStore, DeviceConfiguration
from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.deployment_records import Deployment, LabArtifact, LabDeployment
from mtls_ambassador.lab.server.deployment_store import DeploymentStore
from mtls_ambassador.lab.server.deployments import Deployments
from mtls_ambassador.lab.server.devauth import Devauth
from mtls_ambassador.lab.server.devauth_store import DevauthStore
from mtls_ambassador.lab.server.deviceconfig import Deviceconfig
from mtls_ambassador.lab.server.deviceconnect import Deviceconnect
from mtls_ambassador.lab.server.faults import Effect, Fault, Faults
from mtls_ambassador.lab.server.gate import Gate
from mtls_ambassador.lab.server.groups import Groups
from mtls_ambassador.lab.server.inventory import INVENTORY, Inventory
from mtls_ambassador.lab.server.inventory_store import InventoryStore
from mtls_ambassador.lab.server.page import Overview
from mtls_ambassador.lab.server.records import Device, LabAuthSet, LabCall, LabDevice, rfc3339
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.routes_artifacts import artifacts_routes
from mtls_ambassador.lab.server.routes_deployments import deployments_routes
from mtls_ambassador.lab.server.routes_devauth import devauth_routes
from mtls_ambassador.lab.server.routes_device_deployments import device_deployments_routes
from mtls_ambassador.lab.server.routes_deviceconfig import deviceconfig_routes
from mtls_ambassador.lab.server.routes_deviceconnect import LARGEST_MESSAGE, SILENCE, deviceconnect_routes
from mtls_ambassador.lab.server.routes_groups import groups_routes
from mtls_ambassador.lab.server.routes_inventory import inventory_routes
from mtls_ambassador.lab.server.routes_page import page_routes
from mtls_ambassador.lab.server.routes_useradm import useradm_routes
from mtls_ambassador.lab.server.rules import ACCEPTED
from mtls_ambassador.lab.server.settings import LabSettings, Role, Switches
from mtls_ambassador.lab.server.tokens import Signer
from mtls_ambassador.lab.server.useradm import Useradm
from mtls_ambassador.lab.server.useradm_store import UseradmStore
from mtls_ambassador.serving import HttpServer, WebSockets, tcp_listener

_CALLS_KEPT = 10_000


class LabServer:
    """An embedded Mender Server, for the time of an `async with`. All methods belong into the same event loop.

    Args:
        settings: What it is like.
        host: Address to listen on.
        port: TCP port, 0 for any free one.
        tls: Certificate chain and private key, PEM files; None for plain HTTP.
        clock: Seconds since the epoch.

    Raises:
        Error: on entering, when the database or the port cannot be used.
    """

    def __init__(
        self,
        settings: LabSettings,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[Path, Path] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not settings.password:
            raise Error("the embedded Mender Server has no password", "Give its user one.")
        self._settings = settings
        self._address = (host, port)
        self._tls = tls
        self._clock = clock
        self._switches = Switches.of(settings)
        self._faults = Faults(settings.faults)
        self._calls: deque[LabCall] = deque(maxlen=_CALLS_KEPT)
        self._removals: list[asyncio.TimerHandle] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            database = Database(self._settings.db)
            stack.callback(database.close)
            self._artifact_directory = stack.enter_context(artifact_directory(self._settings.db))
            app = self._assemble(database)
            stack.callback(self._cancel_removals)
            for device_id in self._devauth.store.decommissioning():
                self._remove_later(device_id)
            listener = tcp_listener(*self._address)
            stack.callback(listener.close)
            self.port: int = listener.getsockname()[1]
            websockets = WebSockets(LARGEST_MESSAGE, ping_every=SILENCE / 2, patience=SILENCE / 2)
            await stack.enter_async_context(HttpServer(app, listener, tls=self._tls, grace=1, websockets=websockets))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host = f"[{self._address[0]}]" if ":" in self._address[0] else self._address[0]
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The injected faults, each with what is left of its count; assign a tuple to replace them."""
        return self._faults.rules

    @faults.setter
    def faults(self, rules: Sequence[Fault]) -> None:
        self._faults = Faults(tuple(rules))

    def calls(self) -> tuple[LabCall, ...]:
        """The answered requests, oldest first (the last 10 000)."""
        return tuple(self._calls)

    def devices(self) -> list[LabDevice]:
        """All devices, sorted by status, then id."""
        return [self._shown(device) for device in self._devauth.store.devices()]

    def set_status(self, device_id: str, auth_set_id: str, status: str) -> None:
        """Change an auth set, as an operator does.

        Raises:
            Refusal: where the API would answer 400, 404, 422 or 500.
        """
        self._devauth.set_status(device_id, auth_set_id, status)

    def decommission(self, device_id: str) -> None:
        """Decommission a device, as an operator does.

        Raises:
            Refusal: 404.
        """
        self._devauth.decommission(device_id)

    def put_into_group(self, device_id: str, group: str) -> None:
        """Put a device into a group, as an operator does.

        Raises:
            Refusal: where the API would answer 400 or 404.
        """
        self._groups.put(device_id, group)

    def create_deployment(
        self,
        name: str,
        artifact_name: str,
        device_ids: Sequence[str] = (),
        *,
        group: str | None = None,
        force_installation: bool = False,
    ) -> str:
        """Deploy the artifact of a name to devices or a group, as an operator does, and return the deployment's id.

        Raises:
            Refusal: where the API would answer 400, 409 or 422.
        """
        return self._deployments.create(
            name, artifact_name, device_ids, group=group, force_installation=force_installation
        )

    async def deploy_configuration(self, device_id: str, values: Mapping[str, str]) -> str:
        """Configure a device and deploy that, as an operator does, and return the deployment's id."""
        self._deviceconfig.configure(device_id, values)
        return await self._deviceconfig.deploy(device_id)

    def configuration(self, device_id: str) -> DeviceConfiguration:
        """What a device is configured with, and what it reports.

        Raises:
            Refusal: 404, it was never configured, nor has it reported.
        """
        return self._deviceconfig.configuration(device_id)

    def abort(self, deployment_id: str) -> None:
        """Abort a deployment, as an operator does.

        Raises:
            Refusal: 422, there is none of that id under way.
        """
        self._deployments.abort(deployment_id)

    def deployments(self) -> list[LabDeployment]:
        """All deployments, oldest first."""
        return [self._shown_deployment(item) for item in self._deployments.store.deployments()]

    def artifacts(self) -> list[LabArtifact]:
        """All artifacts, oldest first."""
        return [
            LabArtifact(item.id, item.name, item.device_types, item.size, item.description)
            for item in self._artifacts.store.artifacts()
        ]

    def connected(self, device_id: str) -> bool:
        """Whether a device holds its WebSocket open (mender-connect)."""
        return self._deviceconnect.connected(device_id)

    @asynccontextmanager
    async def session(self, device_id: str) -> AsyncIterator[RemoteSession]:
        """A session with a connected device, as a user of the web page has it; not yet opened.

        Raises:
            Refusal: 404, there is no such device, or it is not connected.
        """
        async with self._deviceconnect.session(device_id, "operator") as link:
            yield RemoteSession(link)

    def revoke_user_sessions(self) -> None:
        """End all sessions of the user; personal access tokens stay."""
        self._useradm.revoke_sessions()

    def change_password(self, new: str) -> None:
        """Change the user's password; all his tokens end."""
        self._useradm.change_password(new)

    def create_token(self, name: str, expires_in: int = 0) -> str:
        """A personal access token of the user; it is good for `expires_in` seconds, 0: for ever.

        Raises:
            Refusal: where the API would answer 400, 409 or 422.
        """
        return self._useradm.create_token(name, expires_in)

    def set_role(self, role: Role) -> None:
        """Change what the user may do."""
        self._switches.role = role

    def set_max_devices(self, limit: int | None) -> None:
        """Change the limit of accepted devices; None: unlimited."""
        self._switches.max_devices = limit

    def _assemble(self, database: Database) -> ASGIApp:
        signer = Signer(database.meta("signing_key"))
        database.set_meta("signing_key", signer.pem())
        self._inventory = Inventory(InventoryStore(database), self._clock)
        self._groups = Groups(self._inventory.store)
        self._devauth = Devauth(
            store=DevauthStore(database),
            inventory=self._inventory,
            switches=self._switches,
            signer=signer,
            token_lifetime=self._settings.device_token_lifetime,
            remove_later=self._remove_later,
            clock=self._clock,
        )
        self._useradm = Useradm(UseradmStore(database), self._settings, self._switches, signer, self._clock)
        deployments = DeploymentStore(database)
        self._artifacts = Artifacts(
            store=ArtifactStore(database, self._artifact_directory),
            link_key=link_key(database),
            in_use=deployments.artifact_in_use,
            clock=self._clock,
        )
        self._deployments = Deployments(
            store=deployments,
            artifacts=self._artifacts,
            accepted=self._accepted,
            clock=self._clock,
        )
        self._deviceconnect = Deviceconnect(self._devauth.device, self._clock)
        self._deviceconfig = Deviceconfig(
            ConfigurationStore(database), self._deployments.create_configuration, self._call, self._clock
        )
        services = build_app(
            [
                *devauth_routes(self._devauth),
                *useradm_routes(self._useradm),
                *inventory_routes(self._inventory),
                *groups_routes(self._groups),
                *artifacts_routes(self._artifacts),
                *deployments_routes(self._deployments),
                *device_deployments_routes(self._deployments, v2_next=self._settings.v2_next),
                *deviceconfig_routes(self._deviceconfig),
                *page_routes(self._useradm, self._overview),
                *deviceconnect_routes(self._deviceconnect),
            ],
            request_size_limit=self._settings.request_size_limit,
        )
        return Gate(
            services,
            devauth=self._devauth,
            useradm=self._useradm,
            switches=self._switches,
            fault=self._next_fault,
            record=self._calls.append,
        )

    def _next_fault(self, method: str, path: str) -> Effect:
        self._faults, effect = self._faults.apply(method, path)
        return effect

    def _accepted(self, group: str | None) -> list[str]:
        accepted = [device.id for device in self._devauth.store.devices([ACCEPTED])]
        members = set(accepted if group is None else self._groups.members(group))
        return [device_id for device_id in accepted if device_id in members]

    async def _call(self, device_id: str) -> None:
        with suppress(Refusal):  # it is not connected, and asks by itself
            await self._deviceconnect.command(device_id, "deviceconfig", "check-update")

    def _remove_later(self, device_id: str) -> None:
        self._deployments.decommission(device_id)
        delay = self._settings.decommission_delay
        if delay <= 0:
            self._devauth.remove(device_id)
        else:
            self._removals.append(asyncio.get_running_loop().call_later(delay, self._devauth.remove, device_id))

    def _cancel_removals(self) -> None:
        for removal in self._removals:
            removal.cancel()

    def _shown(self, device: Device) -> LabDevice:
        sets = self._devauth.store.sets_of(device.id)
        reported = self._inventory.store.attributes(device.id)
        return LabDevice(
            id=device.id,
            identity=json.loads(device.identity) or {},
            status=device.status,
            auth_sets=tuple(LabAuthSet(item.id, item.pubkey, item.status) for item in sets),
            inventory={item.name: item.value for item in reported if item.scope == INVENTORY},
            decommissioning=device.decommissioning,
        )

    def _overview(self) -> Overview:
        check_ins = {device.id: device.check_in for device in self._devauth.store.devices()}
        return Overview(
            devices=tuple(self.devices()),
            check_ins={device_id: moment for device_id, moment in check_ins.items() if moment is not None},
            deployments=tuple(reversed(self.deployments())),
            artifacts=tuple(reversed(self.artifacts())),
            now=rfc3339(self._clock()),
        )

    def _shown_deployment(self, deployment: Deployment) -> LabDeployment:
        states = self._deployments.store.on_devices(deployment.id)
        logs = {item.device_id: self._deployments.store.log(deployment.id, item.device_id) for item in states}
        return LabDeployment(
            id=deployment.id,
            name=deployment.name,
            artifact_name=deployment.artifact_name,
            status=self._deployments.status(deployment),
            devices={item.device_id: item.status for item in states},
            logs={device_id: log for device_id, log in logs.items() if log is not None},
            group=deployment.group,
            configuration=None if deployment.configuration is None else json.loads(deployment.configuration),
        )
