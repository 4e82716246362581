"""The device's `mender.conf`: what the edge needs in it, merged into what is there. Pure.

Both kinds of clients must sign their auth requests with the certificate's key. The Go client (3.x) does so by
`HttpsClient.Key`; the C++ client (4.x, 5.x) never looks there and needs `Security.AuthPrivateKey`. So both are set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mtls_ambassador.config.values import BackendUrl, parse_backend
from mtls_ambassador.device import strict_json
from mtls_ambassador.device.errors import ConfigurationFileError, WantedError

# Where Mender's documentation has them on a device.
CONFIGURATION = "/etc/mender/mender.conf"
CERTIFICATE = "/data/mender/mender-cert.pem"
KEY = "/data/mender/mender-cert-private.pem"
CA = "/usr/local/share/ca-certificates/mender/ca-cert.crt"

PKCS11 = "pkcs11:"
_MENDERS_OWN = "mender.io"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a `mender.conf` shall say.

    Attributes:
        server_url: The edge, `https://HOST[:PORT]`; None: what is there stays.
        tenant_token: Of the Mender Server's tenant; None: what is there stays.
        certificate: Path of the certificate on the device.
        key: Path of its private key on the device, or a `pkcs11:` URI.
        ssl_engine: OpenSSL engine that holds the key, such as `pkcs11`; None: the key is a file.
        server_ca: Path on the device of the CA that signed the edge's certificate; None: what is there stays.
        upstreams: Mender Servers behind the edge, which a device must not be sent to.
    """

    server_url: str | None = None
    tenant_token: str | None = field(default=None, repr=False)
    certificate: str = CERTIFICATE
    key: str = field(default=KEY, repr=False)  # a PKCS #11 URI may hold a PIN
    ssl_engine: str | None = None
    server_ca: str | None = None
    upstreams: tuple[BackendUrl, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """A `mender.conf` that leads to the edge.

    Attributes:
        text: The file, JSON with a newline at its end.
        server_url: The edge, as it stands in there.
        remarks: What was taken out, and what is odd.
    """

    text: str = field(repr=False)
    server_url: str
    remarks: tuple[str, ...]


def merge(existing: str | None, wanted: Wanted, *, name: str = "mender.conf") -> Merged:
    """Put what is wanted into a configuration; all else in it stays, in its order.

    Args:
        existing: The file's text; None where there is none.
        wanted: What it shall say.
        name: The file, as errors name it.

    Raises:
        ConfigurationFileError: the text is not one JSON object, or a part of it has the wrong type.
        WantedError: no server URL is known, it leads past the edge, or the key and the engine do not fit.
    """
    if wanted.key.startswith(PKCS11) and wanted.ssl_engine is None:
        raise WantedError("the key is a PKCS #11 URI, but no SSL engine is named", "Add --ssl-engine pkcs11.")
    _require_paths(wanted)
    conf = {} if existing is None or not existing.strip() else strict_json.read_object(existing, name)
    remarks: list[str] = []
    if wanted.server_url is not None:
        remarks += _leads_to(conf, check_server_url(wanted.server_url, wanted.upstreams))
    url = _only_server(conf, name, wanted.upstreams)
    if wanted.tenant_token is not None:
        _set(conf, "TenantToken", wanted.tenant_token)
    if wanted.server_ca is not None:
        _set(conf, "ServerCertificate", wanted.server_ca)
    client = _section(conf, "HttpsClient", name)
    security = _section(conf, "Security", name)
    _set(client, "Certificate", wanted.certificate)
    _set(client, "Key", wanted.key)
    _set(security, "AuthPrivateKey", wanted.key)
    for section in (client, security):
        _set(section, "SSLEngine", wanted.ssl_engine)
    if conf.get("SkipVerify") is True:
        remarks.append("SkipVerify is true: this device would take any server for the edge; take it out")
    return Merged(json.dumps(conf, indent=2, ensure_ascii=False) + "\n", url, tuple(remarks))


def text_of(data: bytes | None, name: str) -> str | None:
    """A configuration file's text, None for None.

    Raises:
        ConfigurationFileError: it is not UTF-8.
    """
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationFileError(f"{name} is not UTF-8 text", "Save it as UTF-8.") from error


def check_server_url(url: str, upstreams: Iterable[BackendUrl] = ()) -> str:
    """The URL as it goes into `mender.conf`, if it can be an edge's.

    Args:
        url: What somebody gave.
        upstreams: Mender Servers behind the edge.

    Raises:
        WantedError: it is no `https://HOST[:PORT]`, or the upstream itself.
    """
    try:
        edge = parse_backend(url)
    except ValueError as error:
        what = str(error).partition(";")[0]
        raise WantedError(f"the server URL {what}", "Write the edge's: https://my-server.com:8080") from error
    if not edge.tls:
        raise WantedError(
            f"the server URL {edge} is not https, so the device would show no certificate",
            "Write the edge's: https://my-server.com:8080",
        )
    host = edge.host.rstrip(".")
    is_menders = host == _MENDERS_OWN or host.endswith(f".{_MENDERS_OWN}")
    if is_menders or any((host, edge.port) == (other.host.rstrip("."), other.port) for other in upstreams):
        raise WantedError(
            f"the server URL {edge} is the Mender Server, not the edge: the device would go past the edge, "
            "nobody would look at its certificate, and it would wait for somebody to accept it",
            "Write the edge's own URL, with the name its server certificate has: https://my-server.com:8080",
        )
    return str(edge)


def host_of(url: str) -> str:
    """The host in a checked server URL, without brackets and port."""
    return urlsplit(url).hostname or ""


def _require_paths(wanted: Wanted) -> None:
    for option, path in (("certificate", wanted.certificate), ("key", wanted.key), ("server CA", wanted.server_ca)):
        if path is not None and not path.startswith(("/", PKCS11)):
            raise WantedError(
                f"the {option}'s place on the device is not an absolute path",
                f"Write it in full, such as {CERTIFICATE}.",
            )


def _leads_to(conf: dict[str, Any], url: str) -> list[str]:
    """Make it the only server; Mender's clients refuse a file with both `ServerURL` and `Servers`."""
    servers = [value for name, value in conf.items() if name.lower() == "servers" and value]
    _set(conf, "Servers", None)
    _set(conf, "ServerURL", url)
    return ["Servers is taken out: beside ServerURL the client would refuse it"] if servers else []


def _only_server(conf: Mapping[str, Any], name: str, upstreams: Iterable[BackendUrl]) -> str:
    """The server that the file names, after a look at each."""
    found = [value for key, value in conf.items() if key.lower() == "serverurl" and value]
    listed: Any = next((value for key, value in conf.items() if key.lower() == "servers" and value), [])
    try:
        found += [server["ServerURL"] for server in listed]
    except (TypeError, KeyError) as error:
        raise ConfigurationFileError(
            f"{name}: Servers is not a list of objects with a ServerURL", "Give the edge's URL: --server-url."
        ) from error
    if not found:
        raise WantedError(
            f"{name} names no server, and no server URL was given", "Add --server-url https://my-server.com:8080."
        )
    try:
        first, *_ = [check_server_url(str(url), upstreams) for url in found]
    except WantedError as error:
        raise WantedError(f"{name}: {error.what}", error.remedy) from error
    return first


def _section(conf: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = next((conf[other] for other in conf if other.lower() == key.lower()), None) or {}
    if not isinstance(value, dict):
        raise ConfigurationFileError(f"{name}: {key} is not an object", f"Take {key} out of it; it is written anew.")
    _set(conf, key, value)
    return value


def _set(section: dict[str, Any], key: str, value: object) -> None:
    """Set a key or, by None, take it out; a spelling in other case goes, since the Go client would read that too."""
    for other in [other for other in section if other.lower() == key.lower() and (other != key or value is None)]:
        del section[other]
    if value is not None:
        section[key] = value
