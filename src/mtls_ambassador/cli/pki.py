"""`mtls-ambassador pki`: the CA, what it issues and revokes, and a look at any of it."""

from __future__ import annotations

import click

from mtls_ambassador.cli.pki_batch import batch
from mtls_ambassador.cli.pki_inspect import show, verify
from mtls_ambassador.cli.pki_issue import device, init, renew, server, sign
from mtls_ambassador.cli.pki_records import adopt, crl, list_issued, revoke


@click.group
def pki() -> None:
    """A CA and its certificates, as plain PEM files under the names of Mender's documentation.

    Whatever openssl made is taken as it is, and openssl reads whatever is made here.
    """


for _command in (init, server, device, batch, sign, renew, list_issued, show, verify, revoke, crl, adopt):
    pki.add_command(_command)
