"""The second step: whether the port takes connections."""

import errno

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]

from dromos.doctor.finding import Finding, failed, passed
from dromos.doctor.subject import Found, Subject

__all__ = ["connect"]

ADVICE = {
    errno.ECONNREFUSED: "nothing listens on this port, or a firewall refuses: check port and host",
    errno.ETIMEDOUT: "a firewall drops what is sent there, or the machine is down",
    errno.EHOSTUNREACH: "there is no route to it from here",
    errno.ENETUNREACH: "there is no route to it from here: is only IPv6 or only IPv4 at hand?",
}


async def connect(subject: Subject, found: Found) -> Finding:
    """Open a TCP connection to the far side, or to the proxy, racing addresses as the dialer."""
    host, port = subject.first_hop
    try:
        found.tcp = await start_connection(
            list(found.addresses), happy_eyeballs_delay=0.25, interleave=1
        )
        address = str(found.tcp.getpeername()[0])
    except OSError as error:
        number = error.errno or 0
        said = f"no connection to {host} port {port}: {_why(error)}"
        return failed("TCP", said, ADVICE.get(number, "is the far side up, and reachable?"))
    return passed("TCP", f"{address} port {port} accepts connections", address=address, port=port)


def _why(error: OSError) -> str:
    number = error.errno
    return str(error) if number is None else errno.errorcode.get(number, str(error))
