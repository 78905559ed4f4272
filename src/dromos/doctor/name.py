"""The first step: whether the name has an address."""

import socket

from dromos.doctor.finding import Finding, failed, passed
from dromos.doctor.subject import Found, Subject

__all__ = ["look_up"]

SHOWN = 4


async def look_up(subject: Subject, found: Found) -> Finding:
    """Resolve the name of the far side, or of the proxy, as the dialer does."""
    host, port = subject.first_hop
    whose = "" if subject.proxy is None else "the proxy's "
    try:
        found.addresses = await found.resolver.resolve(host, port)
    except OSError as error:
        return failed("DNS", f"{whose}{host} has no address: {_why(error)}", _advice(error))
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found.addresses))
    more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
    shown = ", ".join(addresses[:SHOWN])
    is_literal = addresses == [host]
    said = f"{whose}{host} is an address" if is_literal else f"{whose}{host} is {shown}{more}"
    return passed("DNS", said, host=host, addresses=addresses)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _advice(error: OSError) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "the name server did not answer: look at /etc/resolv.conf, and at the network"
    return "look at the spelling, and whether this name is known from this machine"
