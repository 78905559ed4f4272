"""Autobahn's fuzzing server as a child process of a test run; the one file for CPython 2.7.

It reads its specification as one line of JSON, answers with one line when it listens, on
a port of its own choice and on loopback only, and ends with its stdin.  (`wstest` would
listen on every address, on a port that somebody else may have taken meanwhile.)
"""

import json
import os
import platform
import socket
import sys

import autobahn
import autobahntestsuite
from autobahntestsuite import choosereactor  # noqa: F401  # must come before Twisted's reactor
from autobahntestsuite.fuzzing import FuzzingServerFactory
from twisted.internet import reactor, stdio
from twisted.internet.protocol import Protocol


class Leash(Protocol):
    """Ends the server when nobody holds the other end of stdin any more."""

    def connectionLost(self, reason):  # noqa: N802  # Twisted's name
        reactor.stop()


def main():
    spec = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    os.dup2(2, 1)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    listener.setblocking(False)
    factory = FuzzingServerFactory(dict(spec, url="ws://127.0.0.1:" + str(port)))
    reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, factory)
    stdio.StandardIO(Leash())
    ready = {
        "port": port,
        "cases": factory.specCases,
        "versions": {
            "CPython": platform.python_version(),
            "autobahn": autobahn.version,
            "autobahntestsuite": autobahntestsuite.version,
        },
    }
    answers.write(json.dumps(ready) + "\n")
    answers.close()
    reactor.run()


main()
