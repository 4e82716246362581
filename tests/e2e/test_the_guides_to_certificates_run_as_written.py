"""docs/guide/pki.md, and what docs/guide/getting-started.md says of certificates, from the documents themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.walkthrough import DOCUMENT, blocks

PKI = DOCUMENT.with_name("pki.md")
GETTING_STARTED = DOCUMENT.with_name("getting-started.md")

# What the guide presupposes: a passphrase that is not asked, a medium to take offline, requests out of a factory,
# a CA of `openssl ca`.
_GIVEN = r"""
export PKI_PASSPHRASE='correct horse battery'
mount --make-rprivate /
mount -t tmpfs tmpfs /media
mkdir -p /media/offline requests demoCA/newcerts demoCA/private
new_key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -new $new_key -keyout /dev/null -subj /CN=B0001 -out requests/B0001.req
openssl req -x509 $new_key -keyout demoCA/private/cakey.pem -subj '/CN=Old CA' -out demoCA/cacert.pem
touch demoCA/index.txt
echo 1000 > demoCA/serial
openssl req -new $new_key -keyout old.key -subj /CN=old -out old.req
openssl ca -batch -days 30 -md sha256 -policy policy_anything -in old.req -notext -out old.pem
"""
_AFTERWARDS = r"""
verify='openssl verify -crl_check -CAfile ca-cert.pem -CRLfile ca.crl'
$verify my-device-001-new/device-cert.pem device-cert.pem server-cert.pem batch-1/A0002/device-cert.pem
if $verify my-device-001/device-cert.pem; then exit 1; fi
if mtls-ambassador pki verify my-device-001/device-cert.pem; then exit 1; fi
openssl verify -CAfile pki/ca-chain.pem pki/ca-cert.pem
test "$(wc -l < batch-2/manifest.csv)" = 10001
cmp <(openssl pkey -in line-2-1.key -pubout) <(openssl x509 -in batch-4/line-2-1/device-cert.pem -noout -pubkey)
openssl x509 -in batch-3/B0001/device-cert.pem -noout
mtls-ambassador pki list --dir adopted | grep CN=old
"""


def _run(directory: Path, script: str, *wrapper: str) -> None:
    done = subprocess.run(
        [*wrapper, "bash", "-euxo", "pipefail", "-c", script],
        cwd=directory,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(400)
@pytest.mark.needs("root", "openssl", "unshare")
def test_the_guide_to_certificates(tmp_path: Path) -> None:
    commands = blocks(PKI.read_text(encoding="utf-8"))
    _run(tmp_path, "\n".join([_GIVEN, *commands, _AFTERWARDS]), "unshare", "--mount")


@pytest.mark.needs("openssl")
def test_the_certificates_of_getting_started(tmp_path: Path) -> None:
    text = GETTING_STARTED.read_text(encoding="utf-8")
    ours, openssls = blocks(text[text.index("## 1. Certificates") : text.index("## 2.")])
    verified = "openssl verify -CAfile ca-cert.pem device-cert.pem server-cert.pem"
    _run(tmp_path, "\n".join([ours, verified, openssls, verified]))


def test_every_block_of_the_guide_that_can_be_run_is() -> None:
    text = PKI.read_text(encoding="utf-8")
    kinds = re.findall(r"^```(\S*)$", text, re.MULTILINE)[::2]
    assert len(blocks(text)) == kinds.count("bash") == len(kinds) - 1
    # The other one wants somebody else's Mender Server: tests/integration/test_manifest_is_preauthorised.py.
    (other,) = re.findall(r"^```\n(export .*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "devices preauthorize" in other
