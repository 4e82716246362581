from __future__ import annotations

import pytest

from mtls_ambassador.factory.errors import RowError
from mtls_ambassador.factory.orders import Naming, Order, order
from mtls_ambassador.factory.rows import Row
from mtls_ambassador.factory.template import parse

NAMING = Naming(parse("{serial}"), parse("{serial}.example.com"), (parse("URI:urn:{serial}"),), {"mac": parse("{mac}")})


def test_the_names_of_a_device() -> None:
    row = Row(7, "d.csv, line 7", {"serial": "A1", "mac": 'a"b'})
    assert order(row, NAMING) == Order(
        7, "d.csv, line 7", "A1", "A1.example.com", ("URI:urn:A1",), '{"mac":"a\\"b"}', None
    )


def test_without_identity_and_common_name() -> None:
    made = order(Row(1, "", {"file": "x"}), Naming(parse("{file}"), None))
    assert (made.cn, made.identity, made.san) == (None, "", ())


@pytest.mark.parametrize("serial", ["a/b", "..", ".hidden", "-rf", "a\tb", "x" * 201, "/etc/passwd"])
def test_a_name_must_be_a_file_name(serial: str) -> None:
    with pytest.raises(RowError, match="cannot be a file name"):
        order(Row(1, "", {"serial": serial, "mac": "m"}), NAMING)
