"""JSON as Go's encoding/json writes it, byte for byte. Pure.

Source: the documentation of Go's json.Marshal; identities are compared in this form (Mender deviceauth).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    # so that the text may stand inside HTML and JavaScript
    **{char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"},
}
_TABLE = str.maketrans({**{chr(code): f"\\u{code:04x}" for code in range(0x20)}, **_ESCAPES})


def marshal(value: object, *, sort_keys: bool = False) -> str:
    """`value` (None, bool, int, float, str, list or tuple, dict with str keys) as JSON text without spaces.

    Args:
        value: What to write; floats are finite.
        sort_keys: Write a dict as Go writes a map, sorted by key; otherwise in its own order, as a struct.

    Raises:
        TypeError: a value has no form in JSON. That is a mistake of the caller.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_TABLE)}"'
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        names = sorted(value) if sort_keys else list(value)
        members = (f"{marshal(name)}:{marshal(value[name], sort_keys=sort_keys)}" for name in names)
        return "{" + ",".join(members) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(marshal(element, sort_keys=sort_keys) for element in value) + "]"
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def number(value: float) -> str:
    """A finite double as Go writes it: shortest digits; with an exponent below 1e-6 and from 1e21 upward."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    minus = "-" if sign else ""
    text = "".join(map(str, digits))
    if value == 0:
        return f"{minus}0"
    point = len(text) + int(exponent)  # the position of the decimal point, counted from the first digit
    if not 1e-6 <= abs(value) < 1e21:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{fraction}e{point - 1:+d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    if point >= len(text):
        return f"{minus}{text}{'0' * (point - len(text))}"
    return f"{minus}{text[:point]}.{text[point:]}"
