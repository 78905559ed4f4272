"""The third step: whether the proxy, if there is one, opens a tunnel to the far side."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from dromos.doctor.finding import Finding, failed, passed, skipped, warned
from dromos.doctor.subject import Found, Subject

__all__ = ["pass_proxy"]

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


async def pass_proxy(subject: Subject, found: Found) -> Finding:
    """Have the proxy connect to the far side."""
    if subject.proxy is None:
        return _without(subject.environment)
    if urlsplit(subject.proxy).scheme == "https":
        found.discard()
        return skipped("proxy", "it is spoken to in TLS: the handshake tries it")
    # picows' own way through proxies, so that it is tried as the dialer will go it.
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
    from python_socks.async_.asyncio import Proxy

    found.discard()
    try:
        found.tcp = await Proxy.from_url(subject.proxy).connect(subject.host, subject.port)
    except ProxyError as error:
        code = error.error_code
        return failed(
            "proxy",
            f"the proxy refused{'' if code is None else f' with {code}'}",
            _advice(code),
            hopeless=code == 407,
            code=code,
        )
    except (ProxyConnectionError, ProxyTimeoutError, asyncio.IncompleteReadError, OSError):
        return failed("proxy", "the proxy hung up, or did not answer", "is this the proxy's port?")
    return passed("proxy", f"the proxy leads to {subject.host} port {subject.port}")


def _without(environment: Mapping[str, str]) -> Finding:
    named = next((name for name in VARIABLES if environment.get(name)), None)
    if named is None:
        return skipped("proxy", "none is used")
    return warned(
        "proxy",
        f"none is used, although {named} is set: a dialer does not look at the environment",
        "if the far side is behind it, say --proxy here and PicowsDialer(proxy=...) in the program",
    )


def _advice(code: int | None) -> str:
    if code == 407:
        return "it wants a user name and a password: http://user:password@proxy:port"
    if code == 403:
        return "it does not allow this host or port: ask who runs it"
    return "is the far side known to the proxy, and allowed?"
