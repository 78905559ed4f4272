"""What a far side wants a token to be issued with, where it says so: a claims challenge.

Source: OpenID CAEP as Microsoft has it ("continuous access evaluation"): a 401 with
`WWW-Authenticate: Bearer error="insufficient_claims", claims="<base64>"`.
"""

import base64
import json
import re
from typing import Final

from dromos.errors import HandshakeError

__all__ = ["claims_in"]

_CLAIMS: Final = re.compile(r'\bclaims="([A-Za-z0-9+/_=-]{4,16384})"')


def claims_in(error: HandshakeError) -> str | None:
    """Return the claims that a refusal asks for, as JSON; None if it asks for none."""
    challenge = error.headers.get("www-authenticate", "")
    found = _CLAIMS.search(challenge)
    if error.status != 401 or found is None or "insufficient_claims" not in challenge:
        return None
    coded = found[1].rstrip("=").replace("+", "-").replace("/", "_")
    try:
        text = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None
