"""The programs that are compared, each with one worker, and the upstream behind them all.

Each does the same job: TLS with a required and verified client certificate, no session resumption, HTTP/1.1 to one
upstream over kept connections.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import programs
from bench.load import BODY, DOWNLOAD, TOKEN, Target
from bench.material import Material
from bench.measure import Processes
from bench.programs import PATH, await_port, free_port, program, running
from mtls_ambassador.edge.binary import find_envoy
from mtls_ambassador.tokens.bound import bind
from mtls_ambassador.tokens.keys import TokenKey, TokenKeys, new_key_pem
from tests.certificates import Holder

_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
_CIPHERS_13 = "TLS_AES_256_GCM_SHA384"  # the client's first choice, which Envoy takes
_PACKAGES = ("nginx", "haproxy")


@dataclass(frozen=True)
class Peer:
    """A program that runs.

    Attributes:
        name: Its column in the table.
        port: Where devices connect.
        pid: Its first process.
        token_key: Signs the tokens that it takes; None: it takes any.
    """

    name: str
    port: int
    pid: int
    token_key: TokenKey | None = None

    def target(self, context: ssl.SSLContext, device: Holder) -> Target:
        """What load is pointed at, with tokens that are good for this device."""
        key = self.token_key
        if key is None:
            return Target(self.port, context)
        return Target(self.port, context, lambda: bind(TOKEN.encode(), device.fingerprint, key).decode())

    @property
    def processes(self) -> Processes:
        """All its processes."""
        return Processes(self.pid)


Start = Callable[[Path, Material, int], contextlib.AbstractContextManager[Peer]]
"""A directory for its files, the certificates and the upstream's port, to a peer that serves."""


def missing() -> str | None:
    """The line that installs what is not installed; None if all is there."""
    absent = [name for name in _PACKAGES if shutil.which(name, path=PATH) is None]
    return f"apt-get install {' '.join(absent)}" if absent else None


def versions() -> dict[str, str]:
    """What is compared."""
    return {
        "nginx": _version("nginx", "-v", r"nginx/(\S+)"),
        "nginx's OpenSSL": _version("nginx", "-V", r"(?:running|built) with OpenSSL (\S+)"),
        "HAProxy": _version("haproxy", "-v", r"version (\S+)"),
        "HAProxy's OpenSSL": _version("haproxy", "-vv", r"Running on OpenSSL version : OpenSSL (\S+)"),
        "Envoy": find_envoy(None).version,
        "Python": sys.version.split()[0],
        "client's OpenSSL": ssl.OPENSSL_VERSION.split()[1],
    }


@contextlib.contextmanager
def upstream(directory: Path, size: int) -> Iterator[int]:
    """An nginx that answers every request with a small body, and one path with a file of `size` bytes; its port."""
    directory.mkdir()
    with (directory / "large").open("wb") as file:
        file.truncate(size)
    port = free_port()
    server = f"""
      listen 127.0.0.1:{port};
      keepalive_requests 1000000000;
      location / {{ default_type application/json; return 200 '{BODY.decode()}'; }}
      location = {DOWNLOAD} {{ alias {directory}/large; sendfile on; }}
    """
    with _nginx(directory, server, pinned=False) as process:
        await_port(process, port, directory)
        yield port


@contextlib.contextmanager
def nginx(directory: Path, material: Material, upstream_port: int) -> Iterator[Peer]:
    """Debian's nginx."""
    directory.mkdir()
    port = free_port()
    server = f"""
      listen 127.0.0.1:{port} ssl;
      keepalive_requests 1000000000;
      keepalive_timeout 600s;
      ssl_certificate {material.server};
      ssl_certificate_key {material.server_key};
      ssl_client_certificate {material.ca};
      ssl_verify_client on;
      ssl_protocols TLSv1.2 TLSv1.3;
      ssl_ciphers {_CIPHERS};
      ssl_conf_command Ciphersuites {_CIPHERS_13};
      ssl_session_cache off;
      ssl_session_tickets off;
      location / {{
        proxy_pass http://upstream;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_max_temp_file_size 0;
      }}
    """
    pool = f"upstream upstream {{ server 127.0.0.1:{upstream_port}; keepalive 64; keepalive_requests 1000000000; }}"
    with _nginx(directory, server, pool) as process:
        await_port(process, port, directory)
        yield Peer("nginx", port, process.pid)


@contextlib.contextmanager
def haproxy(directory: Path, material: Material, upstream_port: int) -> Iterator[Peer]:
    """Debian's HAProxy."""
    directory.mkdir()
    port = free_port()
    file = directory / "haproxy.cfg"
    file.write_text(
        f"""
global
  nbthread 1
  maxconn 8000
  tune.ssl.cachesize 0
  ssl-default-bind-ciphers {_CIPHERS}
  ssl-default-bind-ciphersuites {_CIPHERS_13}
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
defaults
  mode http
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  option http-keep-alive
  http-reuse always
frontend edge
  bind 127.0.0.1:{port} ssl crt {material.server_both} ca-file {material.ca} verify required
  default_backend upstream
backend upstream
  server upstream 127.0.0.1:{upstream_port}
""",
        encoding="utf-8",
    )
    with running([program("haproxy"), "-db", "-f", str(file)], directory) as process:
        await_port(process, port, directory)
        yield Peer("haproxy", port, process.pid)


@contextlib.contextmanager
def bare_envoy(directory: Path, material: Material, upstream_port: int) -> Iterator[Peer]:
    """The edge's own Envoy with the least configuration that does the job."""
    directory.mkdir()
    port = free_port()
    file = directory / "envoy.json"
    file.write_text(json.dumps(_bare_configuration(material, port, upstream_port)), encoding="utf-8")
    command = [
        str(find_envoy(None).path), "--config-path", str(file), "--concurrency", "1",
        "--disable-hot-restart", "--log-level", "warning",
    ]  # fmt: skip
    with running(command, directory) as process:
        await_port(process, port, directory)
        yield Peer("bare Envoy", port, process.pid)


@contextlib.contextmanager
def edge(directory: Path, material: Material, upstream_port: int, **options: object) -> Iterator[Peer]:
    """The product, as it is, or with other settings."""
    with _edge(directory, material, upstream_port, **options) as (port, pid):
        yield Peer("edge", port, pid)


@contextlib.contextmanager
def edge_with_bound_tokens(directory: Path, material: Material, upstream_port: int) -> Iterator[Peer]:
    """The product with `bind_tokens`."""
    pem = new_key_pem().decode()
    with _edge(directory, material, upstream_port, bind_tokens=True, token_key=pem) as (port, pid):
        yield Peer("edge, bound tokens", port, pid, TokenKeys.parse(pem).signing)


@contextlib.contextmanager
def _edge(directory: Path, material: Material, upstream_port: int, **options: object) -> Iterator[tuple[int, int]]:
    """The edge's port and process."""
    port = free_port()
    settings = {
        "listen": f"127.0.0.1:{port}",
        "server_cert": material.server,
        "server_key": material.server_key,
        "tenant_ca_pem": material.ca,
        "auth_rate_per_certificate": "off",  # one certificate stands for many devices here
        **options,
    }
    with programs.edge(directory, upstream_port, settings) as pid:
        yield port, pid


ALL: Mapping[str, Start] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "bare Envoy": bare_envoy,
    "edge": edge,
    "edge, bound tokens": edge_with_bound_tokens,
}


@contextlib.contextmanager
def _nginx(directory: Path, server: str, more: str = "", *, pinned: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    temporary = "\n".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # or its worker could not read our directory
    file = directory / "nginx.conf"
    file.write_text(
        f"""
        {user}
        daemon off;
        worker_processes 1;
        pid {directory}/pid;
        error_log {directory}/error.log;
        events {{ worker_connections 8192; }}
        http {{
          access_log off;
          {temporary}
          {more}
          server {{ {server} }}
        }}
        """,
        encoding="utf-8",
    )
    with running([program("nginx"), "-e", "stderr", "-c", str(file)], directory, pinned=pinned) as process:
        yield process


def _version(name: str, argument: str, pattern: str) -> str:
    run = subprocess.run([program(name), argument], capture_output=True, text=True, check=True)
    match = re.search(pattern, run.stdout + run.stderr)
    return match[1] if match else "unknown"


def _bare_configuration(material: Material, port: int, upstream_port: int) -> dict[str, Any]:
    types = "type.googleapis.com"
    listeners = f"{types}/envoy.extensions.filters.network.http_connection_manager.v3"

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    tls = {
        "@type": f"{types}/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(material.server)},
                    "private_key": {"filename": str(material.server_key)},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": str(material.ca)}},
        },
    }
    http = {
        "@type": f"{listeners}.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}],
    }
    endpoint = {"endpoint": {"address": address(upstream_port)}}
    return {
        "static_resources": {
            "listeners": [{"name": "bare", "address": address(port), "filter_chains": [chain]}],
            "clusters": [
                {
                    "name": "upstream",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }
