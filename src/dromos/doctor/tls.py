"""The fourth step: whether TLS comes about, and for how long the certificate holds."""

import asyncio
import socket
import ssl
import time
from typing import Any, Final, cast

from dromos.doctor.certificate import DAYS_TO_ACT, Certificate, read
from dromos.doctor.finding import Finding, failed, passed, skipped, warned
from dromos.doctor.subject import Found, Subject

__all__ = ["secure"]

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which Python has no name."""

# x509_vfy.h of OpenSSL
EXPIRED, NOT_YET, SELF_SIGNED, SELF_SIGNED_CHAIN, NO_ISSUER, WRONG_NAME, WRONG_ADDRESS = (
    *(10, 9, 18, 19, 20),
    *(62, 64),
)
ADVICE: Final = {
    EXPIRED: "have it renewed at the far side; the bridge goes on trying until it is",
    NOT_YET: "look at this machine's clock first, then at the certificate",
    SELF_SIGNED: "if you trust it: --ca FILE here, PicowsDialer(ssl=...) in the program",
    SELF_SIGNED_CHAIN: "its authority is not known here: --ca FILE with that authority's",
    NO_ISSUER: "its authority is not known here: --ca FILE, or have the far side send the whole "
    "chain",
    WRONG_NAME: "connect by one of the names that it is for",
    WRONG_ADDRESS: "connect by one of the names that it is for, rather than by address",
}


async def secure(subject: Subject, found: Found) -> Finding:
    """Shake hands in TLS on the connection of the step before, and send nothing after that."""
    if not subject.secure:
        found.discard()
        return skipped("TLS", "ws:// has none")
    sock, found.tcp = found.tcp, None
    if sock is None:
        return skipped("TLS", "the proxy is spoken to in TLS: the handshake tries both")
    try:
        told = await _shake_hands(sock, subject.context, subject.host)
    except ssl.SSLCertVerificationError as error:
        presented = await _presented(subject, found)
        return _refused(error, presented)
    except ssl.SSLError as error:
        return _no_tls(error, subject)
    except OSError:
        said = "the far side hung up in the middle of TLS"
        return failed("TLS", said, "does this port speak TLS? Does it want a client certificate?")
    finally:
        sock.close()
    return _judged(read(told))


def _judged(certificate: Certificate) -> Finding:
    now = time.time()
    days = certificate.days_left(now)
    said = f"certificate {certificate.described(now)}"
    if days < DAYS_TO_ACT:
        return warned("TLS", said, "have it renewed before it expires", **_facts(certificate, days))
    return passed("TLS", said, **_facts(certificate, days))


def _refused(error: ssl.SSLCertVerificationError, presented: Certificate | None) -> Finding:
    now = time.time()
    what = f"; it is {presented.described(now)}" if presented is not None else ""
    days = None if presented is None else presented.days_left(now)
    advice = ADVICE.get(error.verify_code, "have the far side's certificate looked at")
    facts = {} if presented is None else _facts(presented, days)
    message = error.verify_message.rstrip(".")
    said = f"the certificate is refused: {message}{what}"
    # An expired one is renewed by somebody, and another's day comes, or a clock is set: waiting
    # has sense then.  The others stay as they are.
    hopeless = error.verify_code not in (EXPIRED, NOT_YET)
    return failed("TLS", said, advice, hopeless=hopeless, **facts)


def _no_tls(error: ssl.SSLError, subject: Subject) -> Finding:
    why = error.reason or str(error)
    if why in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        said = f"port {subject.port} does not speak TLS"
        return failed("TLS", said, "is this the right port, or is it ws:// there?", reason=why)
    return failed(
        "TLS", f"TLS failed: {why}", "do both sides have a version in common?", reason=why
    )


def _facts(certificate: Certificate, days: int | None) -> dict[str, Any]:
    return {
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "not_after": certificate.until,
        "days_left": days,
    }


async def _shake_hands(
    sock: socket.socket, context: ssl.SSLContext, host: str, *, binary: bool = False
) -> Any:
    """Return the far side's certificate; the connection is closed."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        asyncio.Protocol, sock=sock, ssl=context, server_hostname=host
    )
    try:
        return transport.get_extra_info("ssl_object").getpeercert(binary)
    finally:
        transport.abort()


async def _presented(subject: Subject, found: Found) -> Certificate | None:
    """Return a certificate that was refused, so that its names and dates can be told.

    Python reads certificates only once they are verified.  So this takes it unverified, and
    then connects again, trusting it and nothing else.  Nothing is sent on either connection.
    """
    if subject.proxy is not None:
        return None
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    try:
        raw = cast("bytes", await _again(subject, found, anything, binary=True))
        only_this = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        only_this.check_hostname = False
        only_this.load_verify_locations(cadata=raw)
        flags = int(ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN) | NO_CHECK_TIME
        only_this.verify_flags = cast("ssl.VerifyFlags", flags)
        return read(await _again(subject, found, only_this, binary=False))
    except (OSError, ValueError):  # an SSLError is an OSError
        return None


async def _again(subject: Subject, found: Found, context: ssl.SSLContext, *, binary: bool) -> Any:
    sock = socket.socket(found.addresses[0][0], socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, found.addresses[0][4])
        return await _shake_hands(sock, context, subject.host, binary=binary)
    finally:
        sock.close()
