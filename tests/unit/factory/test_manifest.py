from __future__ import annotations

import csv
import json
from pathlib import Path

from mtls_ambassador.device import manifest as images
from mtls_ambassador.devices import manifest as adoptions
from mtls_ambassador.devices.rows import Entry
from mtls_ambassador.factory import manifest
from mtls_ambassador.factory.items import Item
from mtls_ambassador.factory.manifest import Layout

ITEMS = [
    Item(1, "d1", "d1.example.com", '{"mac":"00:01"}', b"one", "a1", "11" * 32, "22" * 32),
    Item(2, "d2", 'Ørsted, "2"', '{"mac":"00:02"}', b"two", "a2", "33" * 32, "44" * 32),
]
FOLDERS = Layout(archives=False, key_name="device-private.key", image_suffix=".sdimg")


def test_both_files_say_the_same(tmp_path: Path) -> None:
    assert manifest.write(tmp_path, ITEMS, FOLDERS) == 2
    with (tmp_path / manifest.CSV).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    text = (tmp_path / manifest.JSON).read_text(encoding="utf-8")
    assert table == json.loads(text)
    assert table[1]["cn"] == 'Ørsted, "2"'
    assert len(text.splitlines()) == 2


def test_device_image_reads_it(tmp_path: Path) -> None:
    manifest.write(tmp_path, ITEMS, FOLDERS)
    read = images.read(tmp_path / manifest.CSV, ".sdimg")
    assert read.problems == ()
    assert [(row.image, row.key) for row in read.rows] == [
        (f"{name}.sdimg", tmp_path / name / "device-private.key") for name in ("d1", "d2")
    ]


def test_the_edge_adopts_by_it(tmp_path: Path) -> None:
    manifest.write(tmp_path, ITEMS, FOLDERS)
    for name in (manifest.CSV, manifest.JSON):
        with (tmp_path / name).open(encoding="utf-8") as file:
            found = list(adoptions.read_manifest(file))
        assert [each.claim.value for each in found if isinstance(each, Entry)] == ["22" * 32, "44" * 32]


def test_columns_that_make_no_sense_are_left_out() -> None:
    archives = manifest.row(ITEMS[0], Layout(archives=True, key_name=None, image_suffix=None))
    assert archives["archive"] == "d1.tar.gz"
    assert not {"certificate", "key", "image"} & set(archives)
    requests = manifest.row(ITEMS[0], Layout(archives=False, key_name=None, image_suffix=None))
    assert requests["certificate"] == "d1/device-cert.pem"
    assert "key" not in requests


def test_an_empty_batch_has_an_empty_manifest(tmp_path: Path) -> None:
    assert manifest.write(tmp_path, [], FOLDERS) == 0
    assert json.loads((tmp_path / manifest.JSON).read_bytes()) == []
