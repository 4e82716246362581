"""Identity data and its normal form, which is what makes two spellings one device. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mtls_ambassador.admission.errors import Refused
from mtls_ambassador.admission.strict_json import AmbiguousJsonError, parse_object
from mtls_ambassador.refusals import RefusalReason

# What Go's encoding/json escapes for the sake of HTML and JavaScript.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


LONGEST_IDENTITY = 4096
"""Characters of the normal form. A real one has some dozens; it is kept in memory, ledger and audit log."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says it is."""

    attributes: Mapping[str, Any]
    """At least one, such as `mac`."""
    normal_form: str
    """As Mender stores and compares it: sorted names, no spaces, Go's number format and escapes."""

    def __str__(self) -> str:
        return self.normal_form


def parse_identity(id_data: str) -> Identity:
    """Read the `id_data` of an auth request: a JSON object inside a string.

    Raises:
        Refused: `malformed_request`; it is no object, is empty, very long, or could be read in two ways.
    """
    try:
        attributes = parse_object(id_data)
    except AmbiguousJsonError as error:
        raise Refused(RefusalReason.MALFORMED, f"id_data: {error}") from None
    if not attributes:
        raise Refused(RefusalReason.MALFORMED, "id_data: it is empty")
    form = normal_form(attributes)
    if len(form) > LONGEST_IDENTITY:
        raise Refused(RefusalReason.MALFORMED, f"id_data: longer than {LONGEST_IDENTITY} characters")
    return Identity(attributes, form)


def normal_form(value: object) -> str:
    """JSON text as Go's `json.Marshal` writes what `json.Unmarshal` read.

    Names are sorted by code point (as their UTF-8 bytes would be), numbers are doubles.
    """
    if isinstance(value, Mapping):
        members = (f"{_text(name)}:{normal_form(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(normal_form(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return format_double(float(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def format_double(number: float) -> str:
    """A double as Go writes it in JSON: shortest digits, exponent form below 1e-6 and from 1e21."""
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise TypeError("NaN and Infinity are not JSON")
    text = "".join(map(str, digits))
    point = len(text) + exponent  # where the decimal point stands, counted from the first digit
    minus = "-" if sign else ""
    if not 1e-6 <= abs(number) < 1e21:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        power = point - 1
        return f"{minus}{mantissa}e{'-' if power < 0 else '+'}{abs(power)}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    if point >= len(text):
        return f"{minus}{text}{'0' * (point - len(text))}"
    return f"{minus}{text[:point]}.{text[point:]}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)
