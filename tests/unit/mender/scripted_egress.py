"""An egress whose answers a test gives, and a clock that stands until it is set forward."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from multidict import CIMultiDict, CIMultiDictProxy

from mtls_ambassador.mender.egress import Answer, Egress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Sent:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Step = Answer | Exception | Callable[[Sent], Awaitable[Answer]]


def answer(status: int, content: object = b"", **headers: str) -> Answer:
    """An answer with this body: bytes as they are, anything else as JSON; header names with _ for -."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDictProxy(CIMultiDict(named)), body)


class ScriptedEgress(Egress):
    """Gives `steps` in their order, or what `always` is set to; remembers what was `sent`."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(Path("/nowhere"), connections=1)
        self.steps = list(steps)
        self.always: Step | None = None
        self.sent: list[Sent] = []

    @property
    def paths(self) -> list[str]:
        """Method and path of every request."""
        return [f"{sent.method} {sent.path}" for sent in self.sent]

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | CIMultiDict[str],
        body: bytes = b"",
        within: float,
    ) -> Answer:
        assert within > 0
        sent = Sent(method, path, headers, body)
        self.sent.append(sent)
        step = self.steps.pop(0) if self.steps else self.always
        assert step is not None, sent
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Answer) else await step(sent)
