"""Somebody to be examined, on loopback."""

import datetime
import ssl

import trustme

from dromos.doctor.examine import STEPS, examine
from dromos.doctor.subject import Subject
from dromos.oauth import OAuthClient, StaticToken
from tests.dialers.loopback import serving

CANARY = "CANARY-5f3a-doctor"
DEFAULT = StaticToken(CANARY)
AUTHORITY = trustme.CA()
TRUSTING = ssl.create_default_context()
AUTHORITY.configure_trust(TRUSTING)

__all__ = ["AUTHORITY", "CANARY", "STEPS", "TRUSTING", "examined", "outcomes", "serving", "tls"]


def tls(*names, authority=AUTHORITY, days=90, since=-30):
    """Return a server's context with a certificate for these names."""
    now = datetime.datetime.now()
    made = authority.issue_cert(
        *names,
        not_before=now + datetime.timedelta(days=since),
        not_after=now + datetime.timedelta(days=days, hours=1),
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.configure_cert(context)
    return context


async def examined(url, *, gateway=None, source=DEFAULT, within=30.0, **more):
    """Examine a far side; the report, and every finding by its step."""
    if gateway is not None:
        source = OAuthClient(gateway)
    subject = Subject(
        url=url,
        source=source,
        connection_id="c-1",
        context=more.pop("context", TRUSTING),
        **more,
    )
    told = []
    report = await examine(subject, within=within, tell=told.append)
    if gateway is not None:
        await source.aclose()
    assert told == list(report.findings)
    assert [finding.step for finding in told] == list(STEPS)
    assert CANARY not in repr(report)
    return report, {finding.step: finding for finding in told}


def outcomes(found):
    """Return the outcomes in the order of the steps, a letter each: p, w, f or s."""
    return "".join(finding.outcome[0] for finding in found.values())
