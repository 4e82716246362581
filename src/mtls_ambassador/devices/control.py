"""The control socket: what a running edge answers to operators on its own machine, and what it does for them.

Whoever may open the socket (the edge's user, and root) may do everything here. Changes are entered with the user whom
the kernel names.

| | |
|---|---|
| `GET /devices` | a list; `refused_since`, `contested_since`, `warned_since` (ISO 8601), `adopted=1` |
| `GET /show`, `GET /explain` | by `query` |
| `GET /report` | `since` |
| `POST /adopt` | a JSON list of adoptions, `changes.BATCH` at most |
| `GET /forget` | what `query` names; `POST` the same object to have it forgotten |

Answers are lines of JSON, one object each; a line with `error` ends them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mtls_ambassador.admission.contests import Contests
from mtls_ambassador.admission.journal import Journal
from mtls_ambassador.admission.memory import AdmittedLately, admission_key
from mtls_ambassador.devices.answers import Answer, line
from mtls_ambassador.devices.changes import (
    BATCH,
    Target,
    adoption_of_answer,
    exact_target,
    new_adoptions,
    noted,
    what_to_forget,
)
from mtls_ambassador.devices.dossier import Dossier
from mtls_ambassador.devices.explain import Live
from mtls_ambassador.devices.manifest import read_adoption
from mtls_ambassador.devices.operators import SUDO_HEADER, Operator, operator
from mtls_ambassador.devices.questions import explained, list_page, look_up, report, shown
from mtls_ambassador.errors import Error
from mtls_ambassador.ledger.errors import LedgerUnavailable
from mtls_ambassador.ledger.ledger import Condition, Ledger
from mtls_ambassador.ledger.queries import DeviceFilter
from mtls_ambassador.ledger.records import Adoption
from mtls_ambassador.serving import PEER_UID

_LINES = "application/x-ndjson"

Endpoint = Callable[[Request], Awaitable[Response]]


class Control:
    """Answers for one running edge.

    Args:
        ledger: The edge's.
        journal: Changes are entered here, so that the ledger and the audit log both have them.
        lately: Whom the edge remembers.
        contests: Which identities are fought over now.
        mode: Of the edge's binding.
    """

    def __init__(self, ledger: Ledger, journal: Journal, lately: AdmittedLately, contests: Contests, mode: str) -> None:
        self._ledger = ledger
        self._journal = journal
        self._lately = lately
        self._contests = contests
        self._mode = mode

    async def devices(self, which: DeviceFilter) -> AsyncIterator[Answer]:
        """A list, page by page; between two pages nothing is held."""
        after: int | None = 0
        while after is not None:
            answers, after = await self._ledger.query(partial(list_page, which=which, after=after))
            for answer in answers:
                yield answer

    async def show(self, query: str) -> list[Answer]:
        """Everything the ledger has."""
        return shown(await self._ledger.query(lambda connection: look_up(connection, query)))

    async def explain(self, query: str) -> list[Answer]:
        """The same, explained, with what only we know."""
        found = await self._ledger.query(lambda connection: look_up(connection, query))
        return explained(found, self._live(found.dossier) if found.dossier else None)

    async def report(self, since: dt.datetime) -> list[Answer]:
        """What would have been refused."""
        return await self._ledger.query(lambda connection: report(connection, since, self._mode))

    async def adopt(self, said: list[Adoption], by: Operator) -> Answer:
        """Note what is new of it.

        Whom the edge remembers stays as it is: that only says that Mender itself accepted somebody a while ago, and who
        has an identity now keeps it until Mender accepts another key for it.

        Raises:
            LedgerUnavailable: it was not noted, or may not have been.
        """
        self._require_ledger()
        new = await self._ledger.query(lambda connection: new_adoptions(connection, said))
        dropped = self._ledger.counters.dropped
        for adoption in new:
            self._journal.note(noted(adoption, self._journal.now(), by))
        await self._ledger.flush()
        if self._ledger.counters.dropped != dropped:
            raise LedgerUnavailable("the ledger had no room for it", "Run the command again when the ledger is well.")
        return {"kind": "adopted", "noted": len(new), "unchanged": len(said) - len(new)}

    async def target(self, query: str) -> Answer:
        """What a query names."""
        return (await self._ledger.query(lambda connection: what_to_forget(connection, query))).as_answer()

    async def forget(self, said: Answer, by: Operator) -> Answer:
        """Forget it, here too.

        A certificate that the edge admitted within the last hour is not looked up in the ledger, as long as Mender
        accepts it. If it took another identity after this, it could keep the forgotten one beside it for that long; so
        these admissions are dropped. (Other replicas keep theirs for an hour, and report `key_shared` if it matters.)

        Raises:
            LedgerUnavailable: it was not forgotten, or may not have been.
        """
        self._require_ledger()
        target = await self._ledger.query(lambda connection: exact_target(connection, said))
        self._journal.note(target.event(self._journal.now(), by))
        self._drop(target)
        await self._ledger.flush()
        return target.as_answer()

    def _drop(self, target: Target) -> None:
        for link in target.links:
            self._lately.drop(admission_key(link.identity, link.auth_key, link.certificate.fingerprint))

    def _require_ledger(self) -> None:
        status = self._ledger.status
        if status.condition in (Condition.DOWN, Condition.FULL):
            raise LedgerUnavailable(f"the ledger cannot be written: {status.text}", "See docs/operations/ledger.md.")

    def _live(self, dossier: Dossier) -> Live:
        device = dossier.device
        identity = device.identity if device else next((claim.identity for claim in dossier.claims), "")
        holder = device.holder if device else None
        keys = (
            admission_key(link.identity, link.auth_key, link.certificate.fingerprint)
            for link in dossier.links
            if holder is not None and link.certificate.fingerprint == holder.fingerprint
        )
        return Live(
            contested=self._contests.contested(identity),
            remembered=any(key in self._lately for key in keys),
            ledger=self._ledger.status.condition.value,
        )


def create_control_app(control: Control) -> Starlette:
    """The ASGI application behind the control socket."""

    async def devices(request: Request) -> Response:
        given = request.query_params
        which = DeviceFilter(
            refused_since=_moment(given.get("refused_since")),
            contested_since=_moment(given.get("contested_since")),
            warned_since=_moment(given.get("warned_since")),
            adopted="adopted" in given,
        )
        return StreamingResponse(_told(control.devices(which)), media_type=_LINES)

    async def show(request: Request) -> Response:
        return _lines(await control.show(request.query_params.get("query", "")))

    async def explain(request: Request) -> Response:
        return _lines(await control.explain(request.query_params.get("query", "")))

    async def report(request: Request) -> Response:
        since = _moment(request.query_params.get("since"))
        if since is None:
            raise Error("since is missing", "Give a time.")
        return _lines(await control.report(since))

    async def adopt(request: Request) -> Response:
        said = await _json(request)
        if not isinstance(said, list) or len(said) > BATCH:
            raise Error(f"that is no list of {BATCH} adoptions at most", "Send fewer at a time.")
        adoptions = [read_adoption(adoption_of_answer(item)) for item in said]
        return _lines([await control.adopt(adoptions, await _by(request))])

    async def target(request: Request) -> Response:
        return _lines([await control.target(request.query_params.get("query", ""))])

    async def forget(request: Request) -> Response:
        said = await _json(request)
        if not isinstance(said, dict):
            raise Error("that names nothing to forget", "Send what GET answered.")
        return _lines([await control.forget(said, await _by(request))])

    endpoints: list[tuple[str, str, Endpoint]] = [
        ("GET", "/devices", devices),
        ("GET", "/show", show),
        ("GET", "/explain", explain),
        ("GET", "/report", report),
        ("POST", "/adopt", adopt),
        ("GET", "/forget", target),
        ("POST", "/forget", forget),
    ]
    return Starlette(routes=[Route(path, _safe(endpoint), methods=[method]) for method, path, endpoint in endpoints])


def _safe(endpoint: Endpoint) -> Endpoint:
    async def safe(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Error as error:
            return _lines([_refusal(error)])
        except ValueError as error:
            return _lines([_refusal(Error(f"the edge cannot read this: {error}", "Use the edge's own version."))])

    return safe


async def _by(request: Request) -> Operator:
    uid = request.scope["extensions"][PEER_UID]
    return await asyncio.to_thread(operator, uid, request.headers.get(SUDO_HEADER))


def _refusal(error: Error) -> Answer:
    return {"error": error.what, "remedy": error.remedy}


async def _told(answers: AsyncIterator[Answer]) -> AsyncIterator[str]:
    """Their lines; what goes wrong half-way is the last one."""
    try:
        async for answer in answers:
            yield line(answer)
    except Error as error:
        yield line(_refusal(error))


def _lines(answers: Iterable[Answer]) -> Response:
    return Response("".join(map(line, answers)), media_type=_LINES)


async def _json(request: Request) -> Any:
    return json.loads(await request.body())


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
