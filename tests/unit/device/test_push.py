"""`device.push`: targets, ssh's arguments, and scripts that a shell reads as they are meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.device import conf
from mtls_ambassador.device.conf import Wanted
from mtls_ambassador.device.errors import WantedError
from mtls_ambassador.device.push import READ_CONFIGURATION, Access, Files, HostKeys, Step, Target, command, shown, steps

FILES = Files(("c.pem", b"c"), ("k.pem", b"k"), ("ca.pem", b"ca"))
WANTED = Wanted(server_url="https://my-server.com:8080")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("root@192.0.2.7", Target("192.0.2.7", "root")),
        ("root@device:8822", Target("device", "root", 8822)),
        ("device", Target("device")),
        ("device:22", Target("device", None, 22)),
        ("root@[2001:db8::1]:22", Target("2001:db8::1", "root", 22)),
        ("root@2001:db8::1", Target("2001:db8::1", "root")),
        ("root@[fe80::1%eth0]", Target("fe80::1%eth0", "root")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "@", "root@", "-oProxyCommand=x", "root@-x", "-l@device", "a b", "root@d:0", "root@d:65536", "root@d:x",
     "d;id", "ro ot@d", "root@d:", "$(id)", "root@[d", "d\n"],
)  # fmt: skip
def test_no_targets(text: str) -> None:
    with pytest.raises(WantedError, match="no device to log in to"):
        Target.parse(text)


def test_the_ssh_command() -> None:
    access = Access(HostKeys.STRICT, Path("/k"), Path("/hosts of mine"), ("ProxyJump=gate",), sudo=True)
    words = command(Target("device", "me", 8822), access, Step("x", "echo 'a b'"))
    assert words[:2] == ["ssh", "-T"]
    options = [words[index + 1] for index, word in enumerate(words) if word == "-o"]
    assert options[0] == "ProxyJump=gate"
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", 'UserKnownHostsFile="/hosts of mine"'} < set(options)
    assert words[-7:-1] == ["-i", "/k", "-p", "8822", "--", "me@device"]
    assert shlex.split(words[-1]) == ["sudo", "-n", "sh", "-euc", "echo 'a b'", "push"]


@pytest.mark.parametrize(("policy", "option"), [("strict", "yes"), ("accept-new", "accept-new"), ("ignore", "no")])
def test_host_keys(policy: str, option: str) -> None:
    words = command(Target("d"), Access(HostKeys(policy)), READ_CONFIGURATION)
    assert f"StrictHostKeyChecking={option}" in words


def test_the_configuration_comes_when_all_it_names_is_there() -> None:
    found = steps(FILES, WANTED, configuration=("m", b"{}"), hosts_entry="192.0.2.1", restart=True)
    assert [step.does.split(" to ")[0] for step in found] == [
        "put the private key", "put the certificate", "put the CA", "let the device trust the CA",
        "put my-server.com into /etc/hosts", "put the configuration", "restart the Mender client",
    ]  # fmt: skip
    assert [step.data for step in found] == [b"k", b"c", b"ca", b"", b"", b"{}", b""]
    assert "'k'" not in repr(found)


def test_what_is_not_wanted_is_left_out() -> None:
    found = steps(Files(("c", b"c"), None, None), WANTED, configuration=("m", b""), hosts_entry=None, restart=False)
    assert [step.source for step in found] == ["c", "m"]


def test_a_step_as_a_line_of_shell() -> None:
    line = shown(
        Target("d"), Access(), steps(FILES, WANTED, configuration=("m", b""), hosts_entry=None, restart=True)[0]
    )
    assert line.endswith(" $(wc -c < k.pem) < k.pem")
    assert line.startswith("ssh -T -o BatchMode=yes ")


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\0/"), min_size=1, max_size=20))
def test_any_path_reaches_the_script_as_it_is(name: str) -> None:
    wanted = Wanted(server_url="https://a", key=f"/d/{name}")
    (step, *_) = steps(FILES, wanted, configuration=("m", b""), hosts_entry=None, restart=False)
    words = shlex.split(command(Target("d"), Access(), step)[-1])
    assert words[2] == step.script
    assert shlex.quote(f"/d/{name}") in step.script


def test_places_are_the_documents() -> None:
    assert (conf.CERTIFICATE, conf.KEY) == ("/data/mender/mender-cert.pem", "/data/mender/mender-cert-private.pem")
    assert (conf.CONFIGURATION, conf.CA) == (
        "/etc/mender/mender.conf", "/usr/local/share/ca-certificates/mender/ca-cert.crt",
    )  # fmt: skip
