"""The sixth step: whether the far side upgrades the connection for this token."""

import time
from typing import Final

from dromos import auth
from dromos._outlook import is_hopeless_dial
from dromos.doctor.finding import NAME_A_SOURCE, Finding, failed, passed, warned
from dromos.doctor.listener import Listener
from dromos.doctor.subject import Found, Subject
from dromos.errors import BridgeError, HandshakeError
from dromos.interfaces import Limits, Link
from dromos.model import Handshake, Token

__all__ = ["upgrade"]

STATUSES: Final = {
    101: "something between the two changes the answer: a proxy, or a server of another protocol",
    200: "this path is a web page: look at the URL's path",
    301: "redirects are not followed: connect to where it leads",
    302: "redirects are not followed: connect to where it leads",
    307: "redirects are not followed: connect to where it leads",
    308: "redirects are not followed: connect to where it leads",
    400: "the far side does not take the request: look at the URL's path, and at subprotocols",
    401: "it does not take this token: is it for this far side, with the right audience and scope?",
    403: "the token is good and not enough, or a firewall refuses: look at scopes, and at Origin",
    404: "there is nothing at this path: look at the URL",
    407: "the proxy wants a user name and a password",
    409: "it has another session of ours, and allows one: is another process connected?",
    423: "it has another session of ours, and allows one: is another process connected?",
    426: "it wants another version of the protocol",
    429: "it limits how often we connect: a bridge waits as long as it asks",
    502: "the server behind the far side's proxy is down",
    503: "the far side is overloaded or being deployed: a bridge tries again",
    504: "the server behind the far side's proxy does not answer",
}


async def upgrade(subject: Subject, found: Found, listener: Listener) -> Finding:
    """Open a link with the token, if there is one, with the dialer that a bridge would use."""
    if found.token is None:
        return await _without_token(subject, found, listener)
    try:
        handshake = auth.apply(Handshake(url=subject.url), found.token, time.time())
        found.link = await _dialled(subject, handshake, found.token, listener)
        if handshake.first_message is not None:
            found.link.send(handshake.first_message)
    except BridgeError as error:
        return _refused(error)
    strategy = found.token.strategy.type
    return passed("handshake", f"the far side took the token ({strategy}) and upgraded")


async def _without_token(subject: Subject, found: Found, listener: Listener) -> Finding:
    try:
        found.link = await subject.dialer().dial(Handshake(url=subject.url), listener, Limits())
    except HandshakeError as error:
        if error.status not in (401, 403) or subject.has_secret:
            return _refused(error)
        said = f"{error}: it wants a token"
        return warned("handshake", said, NAME_A_SOURCE, status=error.status)
    except BridgeError as error:
        return _refused(error)
    return passed("handshake", "the far side upgraded without a token")


async def _dialled(
    subject: Subject, handshake: Handshake, token: Token, listener: Listener
) -> Link:
    dialer = subject.dialer()
    try:
        return await dialer.dial(handshake, listener, Limits())
    except HandshakeError as error:
        if not auth.asks_again(handshake, token, error):
            raise
    again = auth.apply(Handshake(url=subject.url), token, time.time())
    return await dialer.dial(again, listener, Limits())


def _refused(error: BridgeError) -> Finding:
    status = error.status if isinstance(error, HandshakeError) else None
    wait = error.retry_after if isinstance(error, HandshakeError) else None
    usual = "is this the right path and port, and does it speak WebSocket?"
    return failed(
        "handshake",
        str(error) if wait is None else f"{error}, and asks us to wait {wait:g} s",
        STATUSES.get(status or 0, usual),
        hopeless=is_hopeless_dial(error),
        status=status,
        retry_after=wait,
    )
