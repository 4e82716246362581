"""The whole edge, put together: the control plane's services, Envoy, and their beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from mtls_ambassador import __version__
from mtls_ambassador.admission.admit import Admission, Shared
from mtls_ambassador.admission.alarm import Alarm, alarm_event
from mtls_ambassador.admission.anchor import Anchors
from mtls_ambassador.admission.certificate import keys_of
from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.flights import Flights
from mtls_ambassador.admission.journal import Journal, Keep
from mtls_ambassador.admission.memory import AdmittedLately
from mtls_ambassador.admission.narrator import Narrator
from mtls_ambassador.admission.policy import identity_binding
from mtls_ambassador.admission.rates import AuthRates
from mtls_ambassador.admission.service import Outcomes, Policy, create_app
from mtls_ambassador.admission.standing import Rotation, Terms
from mtls_ambassador.config.anchors import Anchor
from mtls_ambassador.config.errors import ConfigurationError
from mtls_ambassador.config.material import Material, load_material
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.config.values import ListenAddress
from mtls_ambassador.devices.control import Control, create_control_app
from mtls_ambassador.devices.control_socket import serve_operators
from mtls_ambassador.devices.report import mode_of
from mtls_ambassador.edge.binary import find_envoy
from mtls_ambassador.edge.log_lines import AlarmLine
from mtls_ambassador.edge.machine import ReservedPort, capacity, processors, raise_file_limit
from mtls_ambassador.edge.narrator import OnAlarm
from mtls_ambassador.edge.plan import EdgePlan, plan_edge
from mtls_ambassador.edge.state import remember_server_certificate, state_directory
from mtls_ambassador.edge.supervisor import State, Supervisor
from mtls_ambassador.edge.work import work_directory, write_configuration
from mtls_ambassador.ledger.audit import AuditLog
from mtls_ambassador.ledger.database import Database
from mtls_ambassador.ledger.ledger import Ledger
from mtls_ambassador.managements import by_management, managements, probe
from mtls_ambassador.mender.egress import Egress
from mtls_ambassador.mender.management import Management
from mtls_ambassador.mender.session import SessionStatus
from mtls_ambassador.observe.health import Health, create_admin_app, create_health_app
from mtls_ambassador.serving import HttpServer, any_address, has_ipv6, tcp_listener, unix_listener
from mtls_ambassador.stopping import StopSignals
from mtls_ambassador.tokens.keyring import token_keys
from mtls_ambassador.x509 import fingerprint

_log = structlog.get_logger()

_KNOWN_DEVICES = 100_000
_KNOWN_FOR = 3600.0
_SUMMARY_EVERY = 10.0


class Ambassador:
    """The edge for the time of an `async with`; devices are served when the block is entered.

    Args:
        settings: What the user said.
        environment: The process's environment, for systemd's directories.

    Attributes:
        port: Where devices connect.
        health_port: Where probes ask.
        admin_port: Where operators ask.
        outcomes: What became of auth requests so far.
        ledger: What it has seen and decided; None until it is started.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._stack = contextlib.AsyncExitStack()
        self._supervisor: Supervisor | None = None
        self._audit: AuditLog | None = None
        self._managements: dict[str, Management] = {}
        self._stopping = False
        self.outcomes = Outcomes()
        self.ledger: Ledger | None = None
        self.port = 0
        self.health_port = 0
        self.admin_port = 0

    async def __aenter__(self) -> Self:
        """Start everything, in the order in which each needs the one before.

        Raises:
            ConfigurationError: a file the settings name cannot be used.
            EdgeError: Envoy does not start.
            Error: a port is taken, a directory cannot be made.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        material = load_material(settings, dt.datetime.now(dt.UTC))
        self._warn(material)
        binary = await asyncio.to_thread(find_envoy, settings.envoy_path)
        ipv6 = has_ipv6()
        reserved = stack.enter_context(contextlib.closing(ReservedPort(settings.listen)))
        self.port = reserved.port
        self.health_port = await self._serve(create_health_app(self.health), settings.health_listen)
        self.admin_port = await self._serve(create_admin_app(self.report), settings.admin_listen)
        paths = stack.enter_context(work_directory(self._environment))
        workers = processors()
        room = capacity(raise_file_limit(), workers)
        state = state_directory(settings.state_dir, self._environment)
        keys = token_keys(settings, state)

        def plan_again(found: Material) -> EdgePlan:
            return plan_edge(
                settings,
                found,
                paths=paths,
                port=self.port,
                machine_has_ipv6=ipv6,
                former_server_certificates=remember_server_certificate(state, fingerprint(found.server_chain[0])),
                capacity=room,
                token_jwks=keys.jwks if keys else None,
            )

        plan = plan_again(material)
        write_configuration(plan)
        egress = await stack.enter_async_context(Egress(paths.egress, connections=room.auth_requests))
        self._managements = managements(settings, egress)
        ledger = self.ledger = await stack.enter_async_context(_ledger(settings, state))
        keepers: list[Keep] = [ledger.record]
        if settings.audit_log is not None:
            self._audit = stack.enter_context(AuditLog(settings.audit_log.path))
            keepers.append(self._audit.keep)
        journal = Journal(keepers, lambda: dt.datetime.now(dt.UTC))
        shared = Shared(
            AdmittedLately(_KNOWN_DEVICES, _KNOWN_FOR, time.monotonic),
            Flights(),
            Contests(time.monotonic),
            ledger,
            journal,
        )
        admissions = {
            anchor.name: Admission(self._managements[anchor.name], _terms(anchor, settings), shared)
            for anchor in settings.anchors
        }
        anchors = Anchors(settings.anchors, material.anchors)
        policy = Policy(
            require_same_key=settings.require_same_key,
            server_keys=keys_of(material.server_chain[:1]),
            ca_keys=keys_of((*material.device_cas, *material.server_chain[1:])),
            bindings={anchor.name: identity_binding(anchor.binding) for anchor in settings.anchors},
            anchors=anchors,
            rates=AuthRates(settings.auth_rate_per_certificate, settings.auth_rate_per_address),
            token_key=keys.signing if keys else None,
        )
        control = Control(
            ledger, journal, shared.lately, shared.contests, mode_of(anchor.binding.mode for anchor in settings.anchors)
        )
        await stack.enter_async_context(serve_operators(create_control_app(control), state))
        narrator = Narrator()
        stack.callback(narrator.summarise)
        app = create_app(admissions, egress, policy, self.outcomes, narrator, journal)
        await stack.enter_async_context(HttpServer(app, unix_listener(paths.admission)))

        def before_restart() -> None:
            try:
                again = load_material(settings, dt.datetime.now(dt.UTC))
            except ConfigurationError as error:
                _log.error(
                    "the files of the configuration are kept as they were when it last was good", reason=str(error)
                )
                return
            write_configuration(plan_again(again))
            anchors.trust(again.anchors)

        supervisor = Supervisor(
            binary, plan, concurrency=workers, on_alarm=_remembering(journal, anchors), before_restart=before_restart
        )
        self._supervisor = await stack.enter_async_context(supervisor)
        for management, names in by_management(self._managements).items():
            probing = asyncio.create_task(probe(management, names), name="management-probe")
            stack.push_async_callback(_cancelled, probing)
        summarising = asyncio.create_task(_summarise(narrator), name="summary-of-auth-requests")
        stack.push_async_callback(_cancelled, summarising)
        _log.info(
            "the edge serves devices",
            listen=str(ListenAddress(settings.listen.host, self.port)),
            mender=str(settings.mender_backend),
            health=str(ListenAddress(settings.health_listen.host, self.health_port)),
            envoy=binary.version,
            version=__version__,
        )

    async def _serve(self, app: Any, address: ListenAddress) -> int:
        listener = tcp_listener(address.host or any_address(), address.port)
        port: int = listener.getsockname()[1]
        await self._stack.enter_async_context(HttpServer(app, listener, public=True))
        return port

    @property
    def envoy_pid(self) -> int | None:
        """The process number of the data plane."""
        return self._supervisor.pid if self._supervisor else None

    async def failure(self) -> None:
        """Wait until Envoy cannot be kept running.

        Raises:
            EdgeError: that is so.
        """
        if self._supervisor is not None:
            await asyncio.shield(self._supervisor.failed)

    async def drain(self, impatient: asyncio.Event) -> None:
        """Accept nothing more and let requests in progress finish, for `shutdown_grace` or until `impatient` is set."""
        self._stopping = True
        if self.ledger is not None:
            self.ledger.end_at_once_on(impatient)
        if self._supervisor is not None:
            await self._supervisor.drain(self._settings.shutdown_grace, impatient.wait)

    def health(self) -> Health:
        """How the edge is now."""
        state = self._supervisor.state if self._supervisor else State.STARTING
        seen = {name: management.status for name, management in self._managements.items()}
        worst = next((status for status in seen.values() if status.label != "ok"), next(iter(seen.values()), None))
        return Health(
            ready=state is State.READY and not self._stopping,
            detail={
                "envoy": state.value,
                "management": _told(worst) if worst else {"state": "untried"},
                "trust_anchors": {name: {"management": _told(status)} for name, status in seen.items()},
                "ledger": _told_ledger(self.ledger) if self.ledger else {"state": "closed"},
            },
        )

    def report(self) -> dict[str, Any]:
        """What the edge is doing, for operators."""
        health = self.health()
        return {
            "version": __version__,
            "ready": health.ready,
            **health.detail,
            "envoy_restarts": self._supervisor.restarts if self._supervisor else 0,
            "management_calls": sum(management.calls for management in by_management(self._managements)),
            "auth_requests": dict(self.outcomes.counts),
            "ledger_events": dataclasses.asdict(self.ledger.counters) if self.ledger else {},
            "audit_lines_lost": self._audit.lost if self._audit else 0,
        }

    def _warn(self, material: Material) -> None:
        for warning in material.warnings:
            _log.warning(warning)
        if self._settings.insecure_skip_verify:
            _log.warning("insecure_skip_verify is set: anybody on the way to Mender can read and change everything")
        if not self._settings.require_same_key:
            _log.warning(
                "require_same_key is false: whoever holds a valid certificate and has seen a device's auth request "
                "can send it again as its own and gets that device's token"
            )
        if self._settings.sends_credentials_in_clear:
            _log.warning("mender_backend is http://: the management password and all tokens travel in clear")


async def run(settings: Settings, environment: Mapping[str, str]) -> None:
    """Run the edge until SIGTERM or SIGINT, then drain it; a second signal stops it at once.

    Raises:
        Error: it cannot start, or Envoy cannot be kept running.
    """
    signals = StopSignals()
    async with contextlib.AsyncExitStack() as stack:
        edge = await signals.enter(stack, Ambassador(settings, environment))
        if edge is None:
            _log.info("stopped before it served")
            return
        stopped = asyncio.ensure_future(signals.stop.wait())
        failed = asyncio.ensure_future(edge.failure())
        await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if failed.done():
            await failed
        failed.cancel()
        _log.info("stopping: no new connections, open ones may finish", grace=settings.shutdown_grace)
        await edge.drain(signals.impatient)
    _log.info("stopped")


def _ledger(settings: Settings, state: Path) -> Ledger:
    url = settings.ledger_url.get_secret_value() if settings.ledger_url else None
    return Ledger(
        Database.at(url, state),
        settings.ledger_retention,
        one_identity_per_key=all(anchor.identities_per_certificate == 1 for anchor in settings.anchors),
    )


def _terms(anchor: Anchor, settings: Settings) -> Terms:
    return Terms(
        Rotation(anchor.rotation),
        anchor.identities_per_certificate == 1,
        settings.adopt_until,
        subjects_are_unique=len(settings.anchors) == 1,
    )


def _remembering(journal: Journal, anchors: Anchors) -> OnAlarm:
    """Has the ledger and the audit log remember what Envoy alone refused."""

    def remember(line: AlarmLine, left_out: int) -> None:
        alarm = Alarm(
            line.reason, line.certificate, line.sha256, line.token_of, line.peer.address, line.request_id, left_out
        )
        journal.note(alarm_event(alarm, anchors, journal.now()))

    return remember


def _told_ledger(ledger: Ledger) -> dict[str, Any]:
    status = ledger.status
    return {"state": status.condition.value, "text": status.text, "waiting": status.waiting}


def _told(status: SessionStatus) -> dict[str, str]:
    return {"state": status.label, "text": status.text}


async def _summarise(narrator: Narrator) -> None:
    """Say what the log left out, also when the device that caused it has fallen silent."""
    while True:
        await asyncio.sleep(_SUMMARY_EVERY)
        narrator.summarise()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
