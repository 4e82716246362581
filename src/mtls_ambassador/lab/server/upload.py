"""An artifact's upload: a multipart body that is written to disk as it arrives.

Source: RFC 7578; Mender deployments, management API v1 (ParseMultipart).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from mtls_ambassador.lab.server.artifacts import check_uuid
from mtls_ambassador.lab.server.refusals import Refusal

_LARGEST_ARTIFACT = 10 * 1024**3  # bytes
_LARGEST_FIELD = 1024 * 1024
_WRITE = 1024 * 1024  # bytes that are written at once, off the event loop


@dataclass(frozen=True)
class UploadedFields:
    """What comes with an artifact's file; absent texts are ""."""

    description: str
    artifact_id: str


async def receive_upload(request: Request, target: Path) -> UploadedFields:
    """Write the artifact of a request into the file `target`.

    Raises:
        Refusal: 400 the body is not of that form or not of the size it says, 413 the artifact is too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind not in {b"multipart/form-data", b"multipart/mixed"}:
        raise Refusal(400, "request Content-Type isn't multipart/form-data")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(400, "no multipart boundary param in Content-Type")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        with await asyncio.to_thread(target.open, "wb") as file:
            async for chunk in request.stream():
                parser.write(chunk)
                if form.waiting >= _WRITE:
                    await _write(file, form)
            await _write(file, form)
    except FormParserError as error:
        raise Refusal(400, f"multipart: {error}") from None
    except ClientDisconnect:
        raise Refusal(400, "unexpected EOF") from None
    if not form.complete:
        raise Refusal(400, "unexpected EOF")
    return form.result()


async def _write(file: IO[bytes], form: _Form) -> None:
    if form.waiting:
        await asyncio.to_thread(file.writelines, form.take())


class _Form:
    """What the parser has found so far; the artifact must be the last part, and what follows it is not looked at."""

    def __init__(self) -> None:
        self.complete = False
        self.waiting = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._header = self._value = b""
        self._name = ""
        self._seen_artifact = False
        self._fields: dict[str, bytearray] = {}

    def callbacks(self) -> dict[str, object]:
        """For the parser."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def take(self) -> list[bytes]:
        """The parts of the artifact that have arrived and are to be written."""
        taken, self._parts, self.waiting = self._parts, [], 0
        return taken

    def result(self) -> UploadedFields:
        """The fields, when all of the body was read."""
        if not self._seen_artifact:
            raise Refusal(400, "request does not contain the artifact file")
        size = self._text("size")
        if size and not re.fullmatch(r"[+-]?[0-9]{1,18}", size):
            raise Refusal(400, f'strconv.ParseInt: parsing "{size}": invalid syntax')
        if size and int(size) > 0 and int(size) != self._size:
            raise Refusal(400, "unexpected EOF" if self._size < int(size) else "stream longer than its size")
        if len(self._text("description").encode()) > 4096:
            raise Refusal(400, "Metadata invalid")
        artifact_id = self._text("artifact_id")
        if artifact_id:
            check_uuid(artifact_id)
        return UploadedFields(self._text("description"), artifact_id.lower())

    def _text(self, name: str) -> str:
        return self._fields.get(name, bytearray()).decode(errors="replace")

    def _part_begin(self) -> None:
        self._name = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name", b"").decode(errors="replace").lower()
            self._name = "" if self._seen_artifact else name
            self._seen_artifact |= name == "artifact"
            self._fields.pop(name, None)
        self._header = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "artifact":
            self._size += end - start
            if self._size > _LARGEST_ARTIFACT:
                raise Refusal(413, "Artifact file too large")
            self.waiting += end - start
            self._parts.append(data[start:end])
        elif self._name in {"size", "description", "artifact_id"}:
            field = self._fields.setdefault(self._name, bytearray())
            field += data[start:end]
            if len(field) > _LARGEST_FIELD:
                raise Refusal(400, f"failed to read form value '{self._name}'")

    def _end(self) -> None:
        self.complete = True
