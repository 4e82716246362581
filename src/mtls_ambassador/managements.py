"""Mender's management API in the name of each trust anchor, and a prober for each, so that trouble is known early."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from mtls_ambassador.config.anchors import SINGLE, Credentials
from mtls_ambassador.config.settings import Settings
from mtls_ambassador.mender.egress import Egress
from mtls_ambassador.mender.errors import ManagementUnavailable
from mtls_ambassador.mender.management import Management
from mtls_ambassador.mender.session import open_session

_log = structlog.get_logger()

_PROBE_EVERY = 60.0


def managements(settings: Settings, egress: Egress) -> dict[str, Management]:
    """Name of each trust anchor to the management API with its credentials; anchors with the same ones share it."""
    found: dict[Credentials, Management] = {}
    for anchor in settings.anchors:
        if anchor.credentials not in found:
            found[anchor.credentials] = Management(egress, open_session(anchor.credentials, egress))
    return {anchor.name: found[anchor.credentials] for anchor in settings.anchors}


def by_management(named: Mapping[str, Management]) -> dict[Management, list[str]]:
    """Each management once, and the trust anchors it serves."""
    names: dict[Management, list[str]] = {}
    for name, management in named.items():
        names.setdefault(management, []).append(name)
    return names


async def probe(management: Management, anchors: list[str]) -> None:
    """Find out early, and keep knowing, whether devices could be admitted; keeps the session fresh on the way."""
    of = None if anchors == [SINGLE] else ", ".join(anchors)
    while True:
        try:
            if management.status.label == "ok":
                await management.session.token()
            else:
                await management.probe()
                _log.info("Mender's management API answers", session=management.status.text, anchor=of)
        except ManagementUnavailable as error:
            _log.error(f"new devices cannot be admitted now: {error.what}", remedy=error.remedy or None, anchor=of)
        except Exception as error:
            _log.error("the probe of Mender's management API failed", exc_info=error, anchor=of)
        await asyncio.sleep(_PROBE_EVERY)
