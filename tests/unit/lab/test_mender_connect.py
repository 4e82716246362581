"""`lab.mender_connect`: a bus that both daemons find, and the line that installs what is missing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from mtls_ambassador.lab import mender_connect


def test_the_bus_listens_where_its_clients_look() -> None:
    bus = ElementTree.fromstring(mender_connect.bus_configuration())
    assert bus.findtext("listen") == mender_connect.environment()["DBUS_SYSTEM_BUS_ADDRESS"]
    assert bus.find("servicehelper") is None  # it starts nothing


def test_missing_packages_are_named(tmp_path: Path) -> None:
    assert mender_connect.missing(str(tmp_path)) == "apt-get install mender-connect dbus"
    (tmp_path / "dbus-daemon").write_text("")
    (tmp_path / "dbus-daemon").chmod(0o700)
    assert mender_connect.missing(str(tmp_path)) == "apt-get install mender-connect"
    (tmp_path / "mender-connect").write_text("")
    (tmp_path / "mender-connect").chmod(0o700)
    assert mender_connect.missing(str(tmp_path)) is None


def test_both_run_in_the_new_root_and_mender_connect_in_the_background() -> None:
    bus, connect = mender_connect.commands(Path("/r o"), Path("/log"))
    assert bus.startswith("chroot '/r o' dbus-daemon ")
    assert connect.startswith("chroot '/r o' mender-connect ")
    assert connect.endswith(" >>/log 2>&1 &")
