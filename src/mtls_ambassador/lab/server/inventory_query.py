"""Reading what devices report, and choosing among devices by their attributes. Pure.

Source: Mender inventory, devices API v1 (attributes), management API v1 (query parameters) and v2 (filters/search).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mtls_ambassador.lab.server.godecode import DecodeError, Json, as_struct, as_value
from mtls_ambassador.lab.server.inventory import INVENTORY, InventoryDevice
from mtls_ambassador.lab.server.records import Attribute
from mtls_ambassador.lab.server.refusals import Refusal

_SUPPORTED = frozenset({"$eq", "$ne", "$in", "$nin", "$exists"})
_KNOWN = _SUPPORTED | {"$gt", "$gte", "$lt", "$lte", "$ltne", "$regex"}
_SCOPES = frozenset({"system", "identity", "inventory", "monitor", "tags"})
_FAILURE = "failed to decode request body"
_PER_PAGE_DEFAULT, _PER_PAGE_MAX = 20, 500


@dataclass(frozen=True)
class Predicate:
    """A condition on one attribute; `type` is one of $eq, $ne, $in, $nin, $exists."""

    scope: str
    name: str
    type: str
    value: object

    def holds(self, device: InventoryDevice) -> bool:
        """Whether a device meets it; of an attribute with several values one is enough."""
        found = device.value(self.scope, self.name)
        if self.type == "$exists":
            return (found is not None) == bool(self.value)
        wanted = self.value if isinstance(self.value, list) else [self.value]
        equal = any(value in wanted for value in (found if isinstance(found, list) else [found]))
        return equal == (self.type in {"$eq", "$in"})


@dataclass(frozen=True)
class Order:
    """Sorting by one attribute."""

    scope: str
    name: str
    descending: bool


@dataclass(frozen=True)
class Search:
    """What `filters/search` is asked; `shown` names the attributes to show, as (scope, name), empty: all."""

    page: int
    per_page: int
    predicates: tuple[Predicate, ...]
    device_ids: frozenset[str]
    order: tuple[Order, ...]
    shown: frozenset[tuple[str, str]]

    def choose(self, devices: Iterable[InventoryDevice]) -> list[InventoryDevice]:
        """The devices that match, all pages."""
        matching = [
            device
            for device in devices
            if (not self.device_ids or device.id in self.device_ids)
            and all(predicate.holds(device) for predicate in self.predicates)
        ]
        return in_order(matching, self.order)


def in_order(devices: Sequence[InventoryDevice], order: Sequence[Order]) -> list[InventoryDevice]:
    """Devices sorted by attributes, compared as text; the first criterion weighs most."""
    found = list(devices)
    for criterion in reversed(order):
        found.sort(key=lambda device: str(device.value(criterion.scope, criterion.name)), reverse=criterion.descending)
    return found


def parse_attributes(body: Json) -> list[Attribute]:
    """The attributes that a device reports: an array of `{"name", "value", "description"?}`.

    Raises:
        Refusal: 400, the form is wrong, a name is over 1024 bytes, a value is none of string, number, array of strings,
            array of numbers. 500, a name is empty: the real server notices only when it stores it.
    """
    if body is None:
        return []
    if not isinstance(body, list):
        raise Refusal(400, f"{_FAILURE}: json: cannot unmarshal into Go value of type []model.DeviceAttribute")
    found = []
    for element in body:
        try:
            fields = as_struct(element)
            name, description = fields.string("name"), fields.string("description")
            value = as_value(fields.anything("value"))
        except DecodeError as error:
            raise Refusal(400, f"{_FAILURE}: {error.what}") from None
        if len(name.encode()) > 1024:
            raise Refusal(400, "name: the length must be between 1 and 1024.")
        _check_value(value)
        found.append(Attribute(INVENTORY, name, value, description or None))
    if not all(attribute.name for attribute in found):
        raise Refusal(500, "internal error")
    return found


def parse_search(body: Json) -> Search:
    """The body of `filters/search`.

    Raises:
        Refusal: 400, the form is wrong, or the filter's type is one that this server does not know.
    """
    try:
        fields = as_struct(body)
        size = fields.integer("per_page")
        if size > _PER_PAGE_MAX:
            raise Refusal(400, f"per_page: must be no greater than {_PER_PAGE_MAX}.")
        ids = as_value(fields.anything("device_ids")) or []
        return Search(
            page=max(1, fields.integer("page")),
            per_page=size if size > 0 else _PER_PAGE_DEFAULT,
            predicates=tuple(_predicate(item) for item in _elements(fields.anything("filters"))),
            device_ids=frozenset(str(item) for item in ids) if isinstance(ids, list) else frozenset(),
            order=tuple(_order(item) for item in _elements(fields.anything("sort"))),
            shown=frozenset(_attribute(item) for item in _elements(fields.anything("attributes"))),
        )
    except DecodeError as error:
        raise Refusal(400, f"{_FAILURE}: {error.what}") from None


def query_predicate(name: str, text: str) -> Predicate:
    """The condition of a query parameter `<scope>/<name>=[eq:]<value>`; without a scope it is inventory."""
    scope, slash, attribute = name.partition("/")
    value = text.removeprefix("eq:") or text
    values: list[object] = [value]
    with contextlib.suppress(ValueError):
        values.append(float(value))  # a value that was reported as a number is met as well
    return Predicate(scope if slash else INVENTORY, attribute if slash else name, "$eq", values)


def query_order(text: str) -> tuple[Order, ...]:
    """The sorting of a query parameter `sort=[<scope>/]<name>[:asc|desc]`; "" for none.

    Raises:
        Refusal: 400, the direction is neither.
    """
    if not text:
        return ()
    attribute, colon, direction = text.partition(":")
    if colon and direction not in {"asc", "desc"}:
        raise Refusal(400, "invalid sort order")
    scope, slash, name = attribute.partition("/")
    return (Order(scope if slash else INVENTORY, name if slash else attribute, direction != "asc"),)


def _check_value(value: object) -> None:
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    if not kinds <= {str, float}:
        raise Refusal(400, "value: supported types are string, float64, and arrays thereof.")
    if len(kinds) > 1:
        raise Refusal(400, "value: array values must be of consistent type: string or float64.")


def _elements(value: Json) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DecodeError("json: cannot unmarshal into Go value of type slice")
    return value


def _attribute(item: Json) -> tuple[str, str]:
    fields = as_struct(item)
    scope, name = fields.string("scope"), fields.string("attribute")
    if scope not in _SCOPES:
        raise Refusal(400, f"scope: must be one of {', '.join(sorted(_SCOPES))}.")
    if not name:
        raise Refusal(400, "attribute: cannot be blank.")
    return scope, name


def _predicate(item: Json) -> Predicate:
    fields = as_struct(item)
    kind, value = fields.string("type"), as_value(fields.anything("value"))
    if kind not in _KNOWN:
        raise Refusal(400, "type: must be a valid value.")
    if kind not in _SUPPORTED:
        raise Refusal(400, f"type: {kind} is not known to this embedded server; {', '.join(sorted(_SUPPORTED))} are.")
    if value is None:
        raise Refusal(400, "value: is required.")
    return Predicate(*_attribute(item), kind, value)


def _order(item: Json) -> Order:
    direction = as_struct(item).string("order")
    if direction not in {"asc", "desc"}:
        raise Refusal(400, "order: must be a valid value.")
    return Order(*_attribute(item), direction == "desc")
