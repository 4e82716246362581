"""Which devices a fleet has: one with the files of a real device, or any number with certificates made for the run."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mtls_ambassador.errors import Error
from mtls_ambassador.lab.auth_request import Attributes
from mtls_ambassador.lab.credentials import Credentials, CredentialsError, issue
from mtls_ambassador.lab.device import SimulatedDevice
from mtls_ambassador.lab.transport import Observer, Style
from mtls_ambassador.pki import signer

_MOST = 1 << 24
"""Numbers that the second half of a MAC address has."""


@dataclass(frozen=True)
class Population:
    """What all devices have in common; as in `SimulatedDevice`."""

    server_url: str
    ca_file: Path | None = None
    address: str | None = None
    style: Style = Style.GO
    tenant_token: str = field(default="", repr=False)
    timeout: float = 60.0
    observe: Observer | None = field(default=None, repr=False)

    def of_files(self, certificate: Path, key: Path, identity: Attributes) -> Callable[[int], SimulatedDevice]:
        """The device of these PEM files; there is only number 0."""

        def make(_number: int) -> SimulatedDevice:
            return self._device(certificate, key, identity)

        return make

    def issued_by(self, directory: Path) -> Callable[[int], SimulatedDevice]:
        """Devices with certificates of the CA in `directory`, made when a device starts, and kept in memory.

        Nobody has their keys later, so the identities are new in each run: otherwise Mender would see known devices
        with other keys, which need approval.

        Raises:
            SignerError: the CA is missing, damaged or expired.
            KeyFileError: the CA's key cannot be read.
            CredentialsError: `ca_file` cannot be read.
        """
        ca = signer.load(directory, datetime.now(UTC))
        run = secrets.randbits(16)
        try:
            trusted = self.ca_file.read_text("ascii") if self.ca_file is not None else None
        except (OSError, ValueError) as error:
            raise CredentialsError(f"cannot read {self.ca_file}: {error}") from error

        def make(number: int) -> SimulatedDevice:
            name = f"simulated-{run:04x}-{number:06x}"
            return self._device(None, None, {"mac": _mac(run, number)}, lambda: issue(ca, name, trusted))

        return make

    def _device(
        self,
        certificate: Path | None,
        key: Path | None,
        identity: Attributes,
        credentials: Callable[[], Credentials] | None = None,
    ) -> SimulatedDevice:
        return SimulatedDevice(
            self.server_url,
            self.ca_file,
            certificate,
            key,
            identity,
            address=self.address,
            style=self.style,
            tenant_token=self.tenant_token,
            timeout=self.timeout,
            observe=self.observe,
            credentials=credentials,
        )


def _mac(run: int, number: int) -> str:
    """A locally administered MAC address (IEEE 802: bit 1 of the first octet)."""
    if number >= _MOST:
        raise Error(f"a fleet has at most {_MOST} devices")
    return (bytes((2,)) + run.to_bytes(2, "big") + number.to_bytes(3, "big")).hex(":")
