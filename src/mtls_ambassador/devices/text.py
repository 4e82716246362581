"""Answers as text for a terminal. Pure. Nothing that a device chose (identity, subject) can control the terminal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

from mtls_ambassador.devices.answers import Answer
from mtls_ambassador.printable import escaped

_DECISIONS_SHOWN = 5
_BESIDE = ", and another certificate that claims it is refused"
_FACTS = (
    "first_seen", "last_seen", "last_admitted", "last_refused", "last_reason", "refusals", "last_address", "contested",
)  # fmt: skip
_COLUMNS = (("LAST ADMITTED", 16), ("LAST REFUSED", 16), ("REASON", 25), ("SERIAL", 16), ("IDENTITY", 28))


def table(answers: Iterable[Answer]) -> Iterator[str]:
    """A list, one line an answer, as they come; nothing if there are none."""
    for number, answer in enumerate(answers):
        if number == 0:
            yield _row([name for name, _ in _COLUMNS], "SUBJECT")
        certificate = answer.get("certificate") or {}
        yield _row(
            [
                _short_time(answer.get("last_admitted")),
                _short_time(answer.get("last_refused")),
                answer.get("last_reason") or "-",
                certificate.get("serial") or "-",
                answer.get("identity") or "-",
            ],
            certificate.get("subject") or _adopted(answer) or "-",
        )


def several(answers: list[Answer], query: str) -> Iterator[str]:
    """Several matches."""
    yield f"{len(answers)} matches for {escaped(repr(query))}; name one by its serial or its whole identity:"
    yield ""
    yield from table(answers)


def nothing(answer: Answer, query: str, where: str) -> str:
    """No match: what was searched."""
    return (
        f"nothing matches {escaped(repr(query))} in {where}: searched {answer['devices']} devices and "
        f"{answer['certificates']} certificates by identity, attribute and its value, subject, CN, serial, "
        "fingerprint, key, Mender's id and address"
    )


def shown(answer: Answer) -> Iterator[str]:
    """Everything about one thing."""
    for name in ("identity", "mender_id"):
        if answer.get(name):
            yield f"{name.replace('_', ' '):16}{escaped(answer[name])}"
    if certificate := answer.get("certificate"):
        for name in ("serial", "subject", "issuer", "sha256", "key_sha256", "not_before", "not_after", "anchor"):
            yield f"{name.replace('_', ' '):16}{escaped(certificate[name]) or '(empty)'}"
    elif answer["kind"] == "device":
        yield f"{'certificate':16}nobody holds it"
    for name in _FACTS:
        if answer.get(name) is not None:
            yield f"{name.replace('_', ' '):16}{escaped(answer[name])}"
    if adoption := answer.get("adoption"):
        yield f"{'adopted by':16}{escaped(adoption['by'])} {escaped(adoption['value'])}"
    yield from _section("admitted with", map(_link, answer["admitted_with"]))
    yield from _section("refused", map(_refused, answer["refused_with"]))
    yield from _section("history, the latest first", map(_event, answer["history"]))


def explained(answer: Answer) -> Iterator[str]:
    """An explanation."""
    words = answer["explanation"]
    name = answer.get("identity") or f"certificate {(answer.get('certificate') or {}).get('serial')}"
    others = answer["kind"] == "device" and words["reason"] and words["state"] != "refused"
    yield f"{escaped(name)}: {escaped(words['state'])}{_BESIDE if others else ''}"
    yield ""
    yield from (escaped(sentence) for sentence in words["summary"])
    if words["reason"]:
        yield ""
        why = words["why"] or "a reason that this version does not know"
        yield f"Refused: {escaped(words['reason'])}: {escaped(why)}."
        for title, key in (("Because", "detail"), ("Rule", "rule"), ("What to do", "remedy")):
            if words[key]:
                yield f"{title}: {escaped(words[key])}"
    yield from _section("next", (f"- {escaped(step)}" for step in words["next_steps"]))
    yield from _section("last decisions", map(_event, answer["history"][:_DECISIONS_SHOWN]))


def reported(answers: Iterable[Answer]) -> Iterator[str]:
    """What a rule would have refused, by rule, and the advice."""
    rule: object = None
    for answer in answers:
        if answer["kind"] == "report":
            if rule is not None:
                yield ""
            yield escaped(answer["advice"])
            continue
        if rule is None:
            yield f"{'TIMES':>7}  {'LAST':16}  {'FIRST':16}  IDENTITY  RULE"
        rule = answer["rule"] or "-"
        yield (
            f"{answer['times']:>7}  {_short_time(answer['last'])}  {_short_time(answer['first'])}  "
            f"{escaped(answer['identity'] or '-')}  {escaped(rule)}"
        )


def to_be_forgotten(answer: Answer) -> str:
    """What will be forgotten, as a question or a statement ends."""
    if answer.get("identity"):
        return f"the identity {escaped(answer['identity'])} ({answer['admissions']} admissions known)"
    certificate = answer["certificate"]
    of = f", admitted as {escaped(', '.join(answer['identities']))}" if answer["identities"] else ""
    return f"the certificate with serial {escaped(certificate['serial'])} ({escaped(certificate['subject'])}){of}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(lines):
        if number == 0:
            yield ""
            yield f"{title[:1].upper()}{title[1:]}:"
        yield f"  {text}"


def _link(link: Answer) -> str:
    certificate = link["certificate"]
    until = "until" if link["superseded"] else "last"
    return escaped(
        f"{certificate['serial']} ({certificate['subject']}) as {link['identity']}, {until} "
        f"{_short_time(link['last_admitted'])}, first {_short_time(link['first_admitted'])} ({link['how']})"
    )


def _refused(claim: Answer) -> str:
    certificate = claim["certificate"]
    return escaped(
        f"{certificate['serial']} ({certificate['subject']}) as {claim['identity']}, last "
        f"{_short_time(claim['last_refused'])}: {claim['last_reason']}"
    )


def _event(event: Answer) -> str:
    parts = [_short_time(event["time"], seconds=True), event["event"], event.get("reason")]
    parts += [f"serial={event['serial']}" if "serial" in event else None]
    parts += [f"{name}={event[name]!r}" for name in ("detail", "rule") if event.get(name)]
    parts += [
        f"{name}={event[name]}" for name in ("mender_status", "address", "request_id", "left_out") if name in event
    ]
    return escaped(" ".join(str(part) for part in parts if part))


def _adopted(answer: Answer) -> str | None:
    adoption = answer.get("adoption")
    return f"(adopted by {adoption['by']} {adoption['value']})" if adoption else None


def _row(cells: Iterable[Any], last: object) -> str:
    padded = (f"{escaped(cell):{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return "  ".join((*padded, escaped(last)))


def _short_time(text: str | None, *, seconds: bool = False) -> str:
    """UTC, as in the log."""
    if text is None:
        return "-"
    moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if seconds else f"{moment:%Y-%m-%d %H:%M}"
