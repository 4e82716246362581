from __future__ import annotations

from pathlib import Path

import pytest

from mtls_ambassador.factory.errors import BatchError
from mtls_ambassador.factory.rows import (
    Problem,
    Row,
    comma_separated,
    counted,
    json_lines,
    listed,
    number_of_lines,
    number_of_requests,
    requests,
)


def test_a_number_of_devices() -> None:
    assert [(row.line, row.fields) for row in counted(2) if isinstance(row, Row)] == [(1, {"n": 1}), (2, {"n": 2})]


def test_csv_goes_on_after_a_bad_row_and_knows_its_line() -> None:
    text = 'serial, mac\nA1,m1\n\nA2\nA3,"m,3"\nA4,m4,more\nA5,"m"5\nA6,m6\n'
    found = list(comma_separated(text.splitlines(keepends=True), "d.csv"))
    assert found == [
        Row(2, "d.csv, line 2", {"serial": "A1", "mac": "m1"}),
        Problem("d.csv, line 4", "has 1 values for 2 columns"),
        Row(5, "d.csv, line 5", {"serial": "A3", "mac": "m,3"}),
        Problem("d.csv, line 6", "has 3 values for 2 columns"),
        Problem("d.csv, line 7", "its quotes do not fit"),
        Row(8, "d.csv, line 8", {"serial": "A6", "mac": "m6"}),
    ]


def test_a_quote_left_open_spoils_its_own_row_only() -> None:
    lines = ["serial,mac\n", *(f"A{number},{number}\n" for number in range(2, 20_002))]
    lines[2] = '"Q2,2\n'
    found = list(comma_separated(lines, "d.csv"))
    assert [each for each in found if isinstance(each, Problem)] == [Problem("d.csv, line 3", "its quotes do not fit")]
    assert len(found) == 20_000


@pytest.mark.parametrize("text", ["", "\n", "serial,serial\nA,B\n", "serial,\nA,B\n", '"a\n'])
def test_csv_needs_a_header(text: str) -> None:
    with pytest.raises(BatchError, match="does not name the columns"):
        list(comma_separated(text.splitlines(keepends=True), "d.csv"))


def test_json_lines_go_on_after_a_bad_row() -> None:
    lines = ['{"serial": "A1", "n": 2}\n', "\n", "[1]\n", '{"serial"\n', '{"serial": "A2"}']
    assert list(json_lines(lines, "d.jsonl")) == [
        Row(1, "d.jsonl, line 1", {"serial": "A1", "n": 2}),
        Problem("d.jsonl, line 3", "is not a JSON object"),
        Problem("d.jsonl, line 4", "is not a JSON object"),
        Row(5, "d.jsonl, line 5", {"serial": "A2"}),
    ]


def test_what_is_not_utf8_is_one_rows_problem(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_bytes(b"\xef\xbb\xbfserial\nA\xff1\nA2\n")
    assert list(listed(path)) == [
        Problem("devices.csv, line 2", "serial is not UTF-8"),
        Row(3, "devices.csv, line 3", {"serial": "A2"}),
    ]
    assert number_of_lines(path) >= 3


def test_the_ending_says_what_a_list_is(tmp_path: Path) -> None:
    path = tmp_path / "devices.jsonl"
    path.write_text('{"serial": "A1"}\n', encoding="utf-8")
    assert list(listed(path)) == [Row(1, "devices.jsonl, line 1", {"serial": "A1"})]


def test_a_folder_of_requests(tmp_path: Path) -> None:
    for name in ("a.csr", "b.REQ", "readme.txt", "c.pem"):
        (tmp_path / name).write_bytes(b"")
    found = [row for row in requests(tmp_path) if isinstance(row, Row)]
    assert sorted(str(row.fields["file"]) for row in found) == ["a", "b", "c"]
    assert {row.request for row in found} == {tmp_path / name for name in ("a.csr", "b.REQ", "c.pem")}
    assert number_of_requests(tmp_path) == 3


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    for function in (listed, requests):
        with pytest.raises(BatchError, match="cannot read"):
            list(function(tmp_path / "missing"))
    with pytest.raises(BatchError, match="cannot read"):
        number_of_lines(tmp_path / "missing")
