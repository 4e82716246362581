"""The form of a refusal: how far the peer came, and what is said to whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far the peer came."""

    HANDSHAKE = "handshake"
    """TLS ends with an alert; there is no HTTP answer."""
    REQUEST = "request"
    """Envoy answers, and nothing of the request goes further."""
    AUTH_REQUEST = "auth request"
    """The admission service answers, and Mender never hears of it."""
    ADMISSION = "admission"
    """Mender was asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason, in words."""

    label: str
    """Its name in logs and metrics."""
    stage: Stage
    status: int | None
    """HTTP status of the answer; None where the stage has none or the answer is Mender's own."""
    public: str
    """What the device is told; empty where it is told nothing, or hears Mender's own answer."""
    log: str
    """What the log says."""
    remedy: str
    """What the operator can do."""
