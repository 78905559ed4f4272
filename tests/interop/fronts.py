"""Reverse proxies that we did not write, with TLS and short idle timeouts, and where they are."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.interop.processes import started

__all__ = ["FRONTS", "MUTUAL", "fronted", "program"]

NGINX = """
daemon off; error_log stderr crit; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; {mutual}
    location / {{
      proxy_pass http://127.0.0.1:{to}; proxy_http_version 1.1; proxy_read_timeout 2s;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 2s
  timeout server 2s
  timeout tunnel 2s
frontend front
  bind 127.0.0.1:{port} ssl crt {pem} {mutual}
  default_backend back
backend back
  server one 127.0.0.1:{to}
"""
CADDY = """
{{
  admin off
  auto_https off
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {pem} {pem} {mutual}
  reverse_proxy 127.0.0.1:{to}
}}
"""
FRONTS = {
    "nginx": (NGINX, ["nginx", "-e", "stderr", "-c", "{file}"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-q", "-f", "{file}"]),
    "caddy": (CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config", "{file}"]),
}
MUTUAL = {
    "nginx": "ssl_client_certificate {ca}; ssl_verify_client on;",
    "haproxy": "ca-file {ca} verify required",
    "caddy": "{{\n client_auth {{\n mode require_and_verify\n trusted_ca_cert_file {ca}\n }}\n }}",
}
"""How each asks its clients for a certificate of the same authority."""


def program(name: str) -> str:
    """Where a program of Debian's is; without it the test is skipped."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"there is no `{name}` on this machine (a Debian package)")
    return found


@contextmanager
def fronted(name: str, mutual: str, folder: Path, authority: trustme.CA, to: int) -> Iterator[int]:
    """Run a reverse proxy, and yield its port."""
    template, words = FRONTS[name]
    found = program(words[0])
    pem, ca, file = folder / "server.pem", folder / "ca.pem", folder / "config"
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(ca))

    def command(port: int) -> list[str]:
        asking = mutual.format(ca=ca)
        file.write_text(template.format(port=port, to=to, pem=pem, folder=folder, mutual=asking))
        return [found, *(part.format(file=file) for part in words[1:])]

    with started(command, {**os.environ, "HOME": str(folder)}) as port:
        yield port
