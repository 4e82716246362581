"""`device.manifest`: rows that can be used, and a line for each that cannot."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.device.errors import ManifestError
from mtls_ambassador.device.manifest import Row, parse, read

CSV, LINES, LIST = Path("/batch/m.csv"), Path("/batch/m.jsonl"), Path("/batch/manifest.json")
ROWS = (
    Row(2, "a.sdimg", Path("/batch/a/cert.pem"), Path("/batch/a/key.pem")),
    Row(3, "b.sdimg", Path("/else/cert.pem"), Path("/batch/b.key")),
)


def test_csv_with_other_columns() -> None:
    text = "cn,key,image,certificate\r\na,a/key.pem,a.sdimg,a/cert.pem\r\nb,b.key,b.sdimg,/else/cert.pem\r\n"
    assert parse(text, CSV, ".sdimg").rows == ROWS


def test_json_lines() -> None:
    fields = [
        {"image": "a.sdimg", "certificate": "a/cert.pem", "key": "a/key.pem", "cn": "a"},
        {"image": "b.sdimg", "certificate": "/else/cert.pem", "key": "b.key"},
    ]
    assert parse("\n" + "\n".join(map(json.dumps, fields)) + "\n", LINES, ".sdimg").rows == ROWS


def test_a_list_as_a_batch_leaves_it() -> None:
    text = (
        '[{"cn": "a", "certificate": "a/cert.pem", "key": "a/key.pem", "image": "a.sdimg"},\n'
        '{"cn": "b", "certificate": "/else/cert.pem", "key": "b.key", "image": "b.sdimg"}]\n'
    )
    found = parse(text, LIST, ".sdimg")
    assert found.problems == ()
    assert found.rows == tuple(replace(row, line=row.line - 1) for row in ROWS)


def test_a_quote_left_open_spoils_its_own_row_only() -> None:
    found = parse('image,certificate,key\n"a.sdimg,c,k\nb.sdimg,c,k\n', CSV, ".sdimg")
    assert [row.image for row in found.rows] == ["b.sdimg"]
    assert found.problems == ("/batch/m.csv, line 2: its quotes do not fit",)


def test_bad_rows_are_named_and_the_rest_stays() -> None:
    text = (
        "image,certificate,key\n../a.sdimg,c,k\n.a.sdimg,c,k\na.img,c,k\n,c,k\na.sdimg,,k\na.sdimg,c\n"
        "good.sdimg,c,k\ngood.sdimg,c,k\n"
    )
    found = parse(text, CSV, ".sdimg")
    assert [row.image for row in found.rows] == ["good.sdimg"]
    assert list(found.problems) == [
        "/batch/m.csv, line 2: image '../a.sdimg' is not a plain file name",
        "/batch/m.csv, line 3: image '.a.sdimg' is not a plain file name",
        "/batch/m.csv, line 4: image a.img does not end in .sdimg as the template does",
        "/batch/m.csv, line 5: has no image",
        "/batch/m.csv, line 6: has no certificate",
        "/batch/m.csv, line 7: has no key",
        "/batch/m.csv, line 9: image good.sdimg is line 8's already",
    ]


@pytest.mark.parametrize("line", ["[1]", "{", '"a"', "[" * 10_000, '{"image": 1, "certificate": "c", "key": "k"}'])
def test_bad_lines_of_json(line: str) -> None:
    assert parse(line, LINES, ".sdimg").problems[0].startswith("/batch/m.jsonl, line 1: ")


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("", CSV, "has no column certificate, image, key"),
        ("image,cert,key\na,b,c\n", CSV, "has no column certificate"),
        ("image,certificate,key\n", CSV, "names no device"),
        ("\n\n", LINES, "names no device"),
        ('"image,certificate,key\n', CSV, "in its header: its quotes do not fit"),
        ("[]\n", LIST, "names no device"),
    ],
)
def test_manifests_without_use(text: str, path: Path, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        parse(text, path, ".sdimg")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        read(tmp_path / "m.csv", ".sdimg")
    (tmp_path / "m.csv").write_bytes(b"\xff")
    with pytest.raises(ManifestError, match="is not UTF-8"):
        read(tmp_path / "m.csv", ".sdimg")


@given(st.text(), st.sampled_from([CSV, LINES, LIST]))
def test_any_text_is_a_manifest_or_an_error(text: str, path: Path) -> None:
    with contextlib.suppress(ManifestError):
        parse(f"image,certificate,key\n{text}", path, ".sdimg")
