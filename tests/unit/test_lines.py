from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.lines import LONGEST, LineError, csv_values, json_text


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a,b\n", ["a", "b"]),
        ('"a,1","b ""x"""\r\n', ["a,1", 'b "x"']),
        (",", ["", ""]),
        (" a , b", [" a ", " b"]),
        ("  \n", []),
        ("", []),
    ],
)
def test_values_of_csv(line: str, values: list[str]) -> None:
    assert list(csv_values(line)) == values


@pytest.mark.parametrize("line", ['"a,b\n', 'a,"b"c\n', "a\nb"])
def test_quotes_that_do_not_fit_are_this_lines_only(line: str) -> None:
    with pytest.raises(LineError, match="quotes do not fit"):
        csv_values(line)


@pytest.mark.parametrize("read", [csv_values, json_text])
def test_a_line_without_end(read: object) -> None:
    assert callable(read)
    with pytest.raises(LineError, match="longer than 65536 characters"):
        read("x" * (LONGEST + 1))


@pytest.mark.parametrize(
    "line", ['{"a":[1]}', '[{"a":[1]},\n', '{"a":[1]},\r\n', '{"a":[1]}]\n', '[{"a":[1]}]', ' {"a":[1]} , ']
)
def test_objects_of_json(line: str) -> None:
    assert json.loads(json_text(line)) == {"a": [1]}


@pytest.mark.parametrize("line", ["", "\n", "[\n", "]\n", "[]"])
def test_lines_of_json_without_an_object(line: str) -> None:
    assert json_text(line) == ""


@given(st.text())
def test_any_line_has_values_or_is_told(line: str) -> None:
    try:
        values = csv_values(line)
    except LineError:
        return
    assert all(isinstance(value, str) for value in values)
