"""Starts the server of the benchmarks, with a certificate that was made for this run."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

__all__ = ["Server", "server"]


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and the file that says whom to trust."""

    plain: int
    tls: int
    trust: str

    def url(self, path: str, *, tls: bool) -> str:
        """Return the address of a path."""
        scheme, port = ("wss", self.tls) if tls else ("ws", self.plain)
        return f"{scheme}://localhost:{port}{path}"


@contextmanager
def server() -> Iterator[Server]:
    """Run it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="dromos-bench-") as folder:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(Path(folder) / "ca.pem"))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(Path(folder) / "server.pem"))
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.far", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ports = json.loads(process.stdout.readline())
            yield Server(ports["plain"], ports["tls"], str(Path(folder) / "ca.pem"))
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
