"""Everything that `pki` makes is read and verified by the real openssl, and what openssl makes is taken over."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mtls_ambassador.lab.auth_request import auth_request
from mtls_ambassador.lab.device import AUTH_REQUESTS
from tests.attempts import attempt, request
from tests.certificates import Holder, Issuer, seed_pki
from tests.edge_process import PROGRAM
from tests.world import world

pytestmark = pytest.mark.needs("openssl")

KINDS = ["p256", "p384", "rsa3072", "rsa4096", "ed25519"]
SUBJECT = [
    "--organization", "My Organization", "--unit", "My Unit", "--email", "myusername@example.com",
    "--country", "NO", "--locality", "Oslo", "--state", "Oslo",
]  # fmt: skip


def run(directory: Path, *command: object, environment: Mapping[str, str] | None = None) -> str:
    """Its standard output; it must end well."""
    done = attempted(directory, *command, environment=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def attempted(
    directory: Path, *command: object, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def pki(directory: Path, *arguments: object, **options: Mapping[str, str]) -> str:
    return run(directory, *PROGRAM, "pki", *arguments, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_type_issues_revokes_and_lists(tmp_path: Path, kind: str) -> None:
    pki(tmp_path, "init", "--cn", "My CA", "--key-type", kind, *SUBJECT)
    pki(tmp_path, "server", "--cn", "my-server.com", "--san", "IP:192.0.2.1")
    for name in ("one", "two"):
        # A new RSA key takes seconds, and one of each kind is made above.
        device = "p256" if kind.startswith("rsa") else kind
        pki(tmp_path, "device", "--cn", f"device-{name}", "--key-type", device, "--out", name, *SUBJECT)
    pki(tmp_path, "revoke", "two/device-cert.pem", "--reason", "keyCompromise")
    pki(tmp_path, "crl")

    verify = ("openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", "ca-cert.pem", "-CRLfile", "ca.crl")
    run(tmp_path, *verify, "-purpose", "sslserver", "server-cert.pem")
    run(tmp_path, *verify, "-purpose", "sslclient", "one/device-cert.pem")
    revoked = attempted(tmp_path, *verify, "two/device-cert.pem")
    assert revoked.returncode != 0
    assert "certificate revoked" in revoked.stderr

    text = run(tmp_path, "openssl", "crl", "-in", "ca.crl", "-CAfile", "ca-cert.pem", "-noout", "-text", "-verify")
    for expected in ("Key Compromise", "X509v3 CRL Number", "Next Update", "X509v3 Authority Key Identifier"):
        assert expected in text
    text = run(tmp_path, "openssl", "x509", "-in", "one/device-cert.pem", "-noout", "-text", "-nameopt", "RFC2253")
    for expected in ("TLS Web Client Authentication", "Digital Signature", "CN=device-one", "ST=Oslo", "CA:FALSE"):
        assert expected in text
    key = run(tmp_path, "openssl", "pkey", "-in", "one/device-private.key", "-pubout")
    assert key == run(tmp_path, "openssl", "x509", "-in", "one/device-cert.pem", "-noout", "-pubkey")


def test_an_intermediate_under_an_offline_root(tmp_path: Path) -> None:
    pki(tmp_path, "init", "--cn", "My CA", "--intermediate", "--dir", "pki")
    (tmp_path / "pki" / "root").rename(tmp_path / "offline")
    pki(tmp_path, "server", "--dir", "pki", "--cn", "my-server.com")
    pki(tmp_path, "device", "--dir", "pki", "--cn", "dev-1", "--out", "dev-1")
    pki(tmp_path, "crl", "--dir", "pki")
    pki(tmp_path, "crl", "--dir", "offline")
    # A device that trusts the root alone, and gets the intermediate from the server.
    run(
        tmp_path, "openssl", "verify", "-x509_strict", "-CAfile", "offline/ca-cert.pem",
        "-untrusted", "pki/server-cert.pem", "pki/server-cert.pem",
    )  # fmt: skip
    (tmp_path / "crls").write_text((tmp_path / "pki/ca.crl").read_text() + (tmp_path / "offline/ca.crl").read_text())
    run(
        tmp_path, "openssl", "verify", "-x509_strict", "-crl_check_all", "-CAfile", "pki/ca-chain.pem",
        "-CRLfile", "crls", "dev-1/device-cert.pem",
    )  # fmt: skip
    # Its certificate is renewed where the root is.
    pki(tmp_path, "renew", "pki/ca-cert.pem", "--dir", "offline", "--replace")
    run(tmp_path, "openssl", "verify", "-x509_strict", "-CAfile", "pki/ca-chain.pem", "dev-1/device-cert.pem")
    pki(tmp_path, "verify", "--dir", "pki")
    pki(tmp_path, "revoke", "pki/ca-cert.pem", "--dir", "offline", "--reason", "cACompromise")


def test_a_request_made_on_the_device_is_signed_and_asks_in_vain_for_more(tmp_path: Path) -> None:
    pki(tmp_path, "init", "--cn", "My CA")
    run(tmp_path, "openssl", "ecparam", "-genkey", "-name", "P-256", "-noout", "-out", "device-private.key")
    run(
        tmp_path, "openssl", "req", "-new", "-key", "device-private.key", "-out", "device-cert.req",
        "-subj", "/CN=my-device-001/O=My Organization", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "subjectAltName=DNS:my-server.com",
    )  # fmt: skip
    made = json.loads(pki(tmp_path, "sign", "device-cert.req", "--json"))
    assert made["certificate"] == "device-cert.pem"
    assert made["extensions_not_taken"] == ["basicConstraints", "subjectAltName"]
    text = run(tmp_path, "openssl", "x509", "-in", "device-cert.pem", "-noout", "-text")
    assert "CA:FALSE" in text
    assert "DNS:my-server.com" not in text
    assert "O = My Organization" in text
    key = run(tmp_path, "openssl", "pkey", "-in", "device-private.key", "-pubout")
    assert key == run(tmp_path, "openssl", "x509", "-in", "device-cert.pem", "-noout", "-pubkey")
    pki(tmp_path, "verify", "device-cert.req", "device-cert.pem", "--key", "device-private.key")


def test_a_passphrase_is_openssls_too(tmp_path: Path) -> None:
    secret = {"PKI_PASSPHRASE": "correct horse"}
    pki(tmp_path, "init", "--cn", "My CA", environment=secret)
    assert "ENCRYPTED" in (tmp_path / "ca-private.key").read_text()
    run(tmp_path, "openssl", "pkey", "-in", "ca-private.key", "-passin", "pass:correct horse", "-noout")
    refused = attempted(tmp_path, *PROGRAM, "pki", "device", "--cn", "dev-1")
    assert refused.returncode == 1
    assert "no passphrase was given" in refused.stderr
    wrong = attempted(tmp_path, *PROGRAM, "pki", "device", "--cn", "dev-1", environment={"PKI_PASSPHRASE": "wrong"})
    assert "the passphrase does not open" in wrong.stderr
    assert not (tmp_path / "device-cert.pem").exists()
    # openssl's older form of encryption, too.
    run(tmp_path, "openssl", "ec", "-in", "ca-private.key", "-passin", "env:PKI_PASSPHRASE", "-aes256",
        "-passout", "pass:other", "-out", "older.key", environment=secret)  # fmt: skip
    (tmp_path / "older.key").replace(tmp_path / "ca-private.key")
    (tmp_path / "passphrase").write_text("other\n")
    pki(tmp_path, "device", "--cn", "dev-1", "--passphrase-file", "passphrase")
    run(tmp_path, "openssl", "verify", "-CAfile", "ca-cert.pem", "device-cert.pem")


def test_the_seeds_ca_is_adopted_and_mended(tmp_path: Path) -> None:
    seed_pki(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    told = pki(tmp_path, "adopt")
    assert "3 certificates and 0 revocations are new on record" in told
    assert "version_1" in told
    assert "san_missing" in told
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    assert "0 certificates and 0 revocations are new" in pki(tmp_path, "adopt")
    listed = json.loads(pki(tmp_path, "list", "--json"))
    assert {(each["kind"], each["path"]) for each in listed} == {
        ("root", "ca-cert.pem"), ("server", "server-cert.pem"), ("device", "device-cert.pem"),
    }  # fmt: skip
    pki(tmp_path, "device", "--cn", "new-device", "--out", "new")
    pki(tmp_path, "revoke", "device-cert.pem")
    pki(tmp_path, "crl")
    verify = ("openssl", "verify", "-crl_check", "-CAfile", "ca-cert.pem", "-CRLfile", "ca.crl")
    run(tmp_path, *verify, "new/device-cert.pem", "server-cert.pem")
    assert "certificate revoked" in attempted(tmp_path, *verify, "device-cert.pem").stderr

    pki(tmp_path, "renew", "ca-cert.pem", "--replace")
    pki(tmp_path, "renew", "server-cert.pem", "--replace")
    assert pki(tmp_path, "verify").count(": good") == 5
    run(tmp_path, *verify, "-x509_strict", "-purpose", "sslserver", "server-cert.pem")
    run(tmp_path, *verify, "new/device-cert.pem")
    assert "certificate revoked" in attempted(tmp_path, *verify, "device-cert.pem").stderr


_OPENSSL_CA = """
[ca]
default_ca = my_ca
[my_ca]
dir = .
database = index.txt
new_certs_dir = newcerts
serial = serial
crlnumber = crlnumber
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
[any]
commonName = supplied
"""


def test_the_database_of_openssl_ca_is_adopted(tmp_path: Path) -> None:
    demo = tmp_path / "demoCA"
    (demo / "newcerts").mkdir(parents=True)
    (demo / "openssl.cnf").write_text(_OPENSSL_CA)
    (demo / "index.txt").touch()
    (demo / "serial").write_text("1000\n")
    (demo / "crlnumber").write_text("0A\n")
    run(demo, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "cakey.pem", "-out", "cacert.pem",
        "-subj", "/CN=Old CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    ca = ("openssl", "ca", "-config", "openssl.cnf", "-batch", "-cert", "cacert.pem", "-keyfile", "cakey.pem")
    for name in ("one", "two"):
        run(demo, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.req")  # fmt: skip
        run(demo, *ca, "-in", f"{name}.req", "-out", f"{name}.pem", "-notext")
    run(demo, *ca, "-revoke", "one.pem", "-crl_reason", "keyCompromise")
    run(demo, *ca, "-gencrl", "-out", "crl.pem")

    told = pki(
        tmp_path, "adopt", "--dir", "pki", "--ca-cert", "demoCA/cacert.pem", "--ca-key", "demoCA/cakey.pem",
        "--database", "demoCA/index.txt",
    )  # fmt: skip
    assert "3 certificates and 1 revocations" in told
    assert (tmp_path / "pki" / "ca-private.key").stat().st_mode & 0o777 == 0o600
    (revoked,) = json.loads(pki(tmp_path, "list", "--dir", "pki", "--status", "revoked", "--json"))
    assert (revoked["serial"], revoked["subject"], revoked["reason"]) == ("1000", "CN=one", "keyCompromise")
    pki(tmp_path, "crl", "--dir", "pki")
    verify = ("openssl", "verify", "-crl_check", "-CAfile", "pki/ca-cert.pem", "-CRLfile", "pki/ca.crl")
    assert "certificate revoked" in attempted(tmp_path, *verify, "demoCA/one.pem").stderr
    run(tmp_path, *verify, "demoCA/two.pem")
    assert "CRL Number: \n                11" in run(tmp_path, "openssl", "crl", "-in", "pki/ca.crl", "-noout", "-text")


def test_a_list_of_openssl_is_not_forgotten(tmp_path: Path) -> None:
    test_the_database_of_openssl_ca_is_adopted(tmp_path)
    demo = tmp_path / "demoCA"
    for old, new in (("cacert.pem", "ca-cert.pem"), ("cakey.pem", "ca-private.key"), ("crl.pem", "ca.crl")):
        (demo / old).rename(demo / new)
    refused = attempted(demo, *PROGRAM, "pki", "crl")
    assert refused.returncode == 1
    assert "would make them good again" in refused.stderr
    assert "pki adopt" in refused.stderr
    pki(demo, "adopt")
    pki(demo, "crl")
    text = run(demo, "openssl", "crl", "-in", "ca.crl", "-noout", "-text")
    assert "Serial Number: 1000" in text
    assert "Key Compromise" in text


async def test_what_was_renewed_passes_the_edge(tmp_path: Path) -> None:
    """A CA of the seed, mended; the seed's device, one with a new certificate, one with a new key."""
    seed_pki(tmp_path / "pki")
    directory = tmp_path / "pki"
    pki(directory, "renew", "ca-cert.pem", "--replace")
    pki(directory, "renew", "device-cert.pem", "--out", "same-key")
    pki(directory, "renew", "device-cert.pem", "--new-key", "--out", "new-key")
    pki(directory, "renew", "server-cert.pem", "--kind", "server", "--replace")
    ca = Issuer.load(directory / "ca-cert.pem", directory / "ca-private.key")
    devices = {
        "seed": Issuer.load(directory / "device-cert.pem", directory / "device-private.key"),
        "same key": Issuer.load(directory / "same-key/device-cert.pem", directory / "device-private.key"),
        "new key": Issuer.load(directory / "new-key/device-cert.pem", directory / "new-key/device-private.key"),
    }
    (tmp_path / "world").mkdir()
    server: Holder = Issuer.load(directory / "server-cert.pem", directory / "server-private.key")
    async with world(tmp_path / "world", server=server, bundle=ca.pem, identities_per_certificate="unlimited") as w:
        for name, holder in devices.items():
            signed = auth_request(holder.key, {"mac": name})
            data = request("POST", AUTH_REQUESTS, signed.headers.items(), signed.body)
            context = w.client_context(holder)
            context.load_verify_locations(cadata=ca.pem.decode())
            tried = await attempt(w.edge.port, data, context)
            assert tried.answer.status == 200, name
