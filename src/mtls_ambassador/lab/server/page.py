"""The page that shows what the server knows, for a person with a browser. Pure.

It has no script and loads nothing, and its policy forbids both: identities and inventories are texts of strangers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from mtls_ambassador.lab.server.deployment_records import LabArtifact, LabDeployment
from mtls_ambassador.lab.server.records import LabDevice

_REFRESH = 10  # seconds; what a reader has unfolded folds again
_MOST_ROWS = 500

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #888 }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { color: var(--dim); margin: .25rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--dim); font-weight: 500; font-size: .85rem; white-space: nowrap }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
ul { list-style: none; margin: 0; padding: 0 } li { padding: .1rem 0 }
b { font-weight: 500; color: var(--dim) }
summary { cursor: pointer; color: var(--dim) }
mark { font-size: .85rem; padding: .1rem .55rem; border-radius: 1rem; background: var(--soft); color: inherit;
  white-space: nowrap }
mark.good { background: #1a7f37; color: #fff } mark.busy { background: #bf8700; color: #fff }
mark.bad { background: #cf222e; color: #fff }
"""

_COLOURS = {
    **dict.fromkeys(("accepted", "success", "finished", "already-installed"), "good"),
    **dict.fromkeys(("pending", "preauthorized", "inprogress", "downloading", "installing", "rebooting"), "busy"),
    **dict.fromkeys(("rejected", "failure", "noartifact", "aborted", "decommissioned"), "bad"),
}

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What the page is to be sent with."""


@dataclass(frozen=True)
class Overview:
    """What the page shows.

    Attributes:
        devices: The devices.
        check_ins: When each was last seen, RFC 3339 by device id.
        deployments: The deployments, newest first.
        artifacts: The artifacts, newest first.
        now: The time, RFC 3339.
    """

    devices: tuple[LabDevice, ...]
    check_ins: Mapping[str, str]
    deployments: tuple[LabDeployment, ...]
    artifacts: tuple[LabArtifact, ...]
    now: str


def render(overview: Overview) -> str:
    """The page as HTML."""
    accepted = sum(device.status == "accepted" for device in overview.devices)
    names = {device.id: _identity_text(device) for device in overview.devices}
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<meta http-equiv="refresh" content="{_REFRESH}">',
        f"<title>{accepted} accepted - lab Mender Server</title>",
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Lab Mender Server</h1>",
        f"<p>{len(overview.devices)} devices, {accepted} accepted. {_time(overview.now)} UTC.</p>",
        _table(
            "Devices",
            ("Status", "Identity", "Inventory", "Keys", "Last seen", "Id"),
            [_device(device, overview.check_ins.get(device.id)) for device in overview.devices],
        ),
        _table(
            "Deployments",
            ("Status", "Name", "Artifact or configuration", "Devices"),
            [_deployment(deployment, names) for deployment in overview.deployments],
        ),
        _table(
            "Artifacts",
            ("Name", "Device types", "Size", "Description"),
            [_artifact(artifact) for artifact in overview.artifacts],
        ),
        "</body></html>",
    ]
    return "\n".join(parts)


def _device(device: LabDevice, check_in: str | None) -> tuple[str, ...]:
    keys = [f"<li>{_mark(item.status)}</li>" for item in device.auth_sets]
    return (
        _mark("decommissioning" if device.decommissioning else device.status),
        _pairs(device.identity),
        _inventory(device.inventory),
        f"<ul>{''.join(keys)}</ul>",
        _time(check_in) if check_in else "never",
        f"<code>{escape(device.id)}</code>",
    )


def _deployment(deployment: LabDeployment, names: Mapping[str, str]) -> tuple[str, ...]:
    lines = []
    for device_id, status in list(deployment.devices.items())[:_MOST_ROWS]:
        log = deployment.logs.get(device_id)
        told = f"<details><summary>log</summary><code>{escape(log)}</code></details>" if log else ""
        lines.append(f"<li>{_mark(status)} <code>{escape(names.get(device_id, device_id))}</code>{told}</li>")
    configuration = deployment.configuration
    group = f"<p>group {escape(deployment.group)}</p>" if deployment.group else ""
    return (
        _mark(deployment.status),
        # Mender names it and its artifact after its id, which tells a reader nothing.
        "Configuration" if configuration is not None else escape(deployment.name) + group,
        _pairs(configuration) if configuration is not None else escape(deployment.artifact_name),
        f"<ul>{''.join(lines)}</ul>",
    )


def _artifact(artifact: LabArtifact) -> tuple[str, ...]:
    return (
        escape(artifact.name),
        escape(", ".join(artifact.device_types)),
        f"{artifact.size / 1000:,.0f} kB",
        escape(artifact.description),
    )


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    if not rows:
        return f"<h2>{title}</h2>\n<p>None yet.</p>"
    more = f"<p>{len(rows) - _MOST_ROWS} more are not shown.</p>" if len(rows) > _MOST_ROWS else ""
    body = "\n".join(f"<tr>{_cells('td', row)}</tr>" for row in rows[:_MOST_ROWS])
    return (
        f'<h2>{title}</h2>\n<div class="wide"><table><thead><tr>{_cells("th", heads)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{text}</{tag}>" for text in texts)


def _mark(status: str) -> str:
    colour = _COLOURS.get(status)
    return f'<mark class="{colour}">{escape(status)}</mark>' if colour else f"<mark>{escape(status)}</mark>"


def _inventory(inventory: Mapping[str, object]) -> str:
    """What tells devices apart at once; the rest is a click away."""
    if not inventory:
        return "none yet"
    if len(inventory) <= 4:
        return _pairs(inventory)
    first = {name: inventory[name] for name in ("device_type", "artifact_name") if name in inventory}
    rest = {name: value for name, value in inventory.items() if name not in first}
    return f"{_pairs(first)}<details><summary>{len(rest)} more</summary>{_pairs(rest)}</details>"


def _pairs(values: Mapping[str, object]) -> str:
    lines = [f"<li><b>{escape(name)}</b> <code>{escape(_text(value))}</code></li>" for name, value in values.items()]
    return f"<ul>{''.join(lines)}</ul>"


def _identity_text(device: LabDevice) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in device.identity.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time(moment: str) -> str:
    return escape(moment[:19].replace("T", " "))
