"""What the embedded Mender Server is started with, and what an operator may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mtls_ambassador.lab.server.faults import Fault

WEEK = 604800.0
Role: TypeAlias = Literal["full", "preauthorize-only"]


@dataclass(frozen=True)
class LabSettings:
    """Settings of one `LabServer`.

    Attributes:
        user: E-mail address of the one user of the management API.
        password: His password.
        db: SQLite file that keeps everything, the signing key included (mode 0600); None keeps it in memory.
            The files of artifacts are in a directory beside it; without it in a temporary one.
        max_devices: Limit of accepted devices; None: unlimited.
        session_lifetime: Seconds that a login is good for.
        device_token_lifetime: Seconds that a device's token is good for.
        sessions_per_user: A login beyond so many evicts the oldest.
        tokens_per_user: So many personal access tokens at most.
        two_factor: The account has two-factor authentication: a login without `token2fa` (six digits, any) is refused.
        role: `preauthorize-only` answers 403 to every management call of deviceauth but the preauthorization.
        decommission_delay: Seconds between the deletion of a device and its removal; until then it is decommissioning.
        v2_next: Have the update check of API v2, as Enterprise and hosted Mender; without it devices fall back to v1.
        request_size_limit: Bytes that a request body may have; an artifact's upload may have 10 GiB.
        faults: Injected from the start.
    """

    user: str = "mtls@mender.io"
    password: str = field(default="", repr=False)
    db: Path | None = None
    max_devices: int | None = None
    session_lifetime: float = WEEK
    device_token_lifetime: float = WEEK
    sessions_per_user: int = 10
    tokens_per_user: int = 10
    two_factor: bool = False
    role: Role = "full"
    decommission_delay: float = 0.0
    v2_next: bool = False
    request_size_limit: int = 1024 * 1024
    faults: tuple[Fault, ...] = ()


@dataclass
class Switches:
    """What changes at run time; fields as in `LabSettings`."""

    password: str = field(repr=False)
    max_devices: int | None
    role: Role

    @staticmethod
    def of(settings: LabSettings) -> Switches:
        """As the server starts."""
        return Switches(settings.password, settings.max_devices, settings.role)
