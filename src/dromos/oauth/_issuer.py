"""What the grants that issue a token with each question have in common."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from dromos.errors import TokenError
from dromos.model import Token
from dromos.oauth._client import Client
from dromos.oauth._endpoint import Asking, Issued, ask
from dromos.oauth._flow import Flow, run

__all__ = ["Issuer"]


class Issuer(ABC):
    """A `dromos.TokenSource` on a token endpoint: each call is one POST.

    Args:
        client: Who asks, and where.
    """

    per_connection = False
    """Every connection of one client gets the same token."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __repr__(self) -> str:
        # A traceback may show one that is half made.
        return f"{type(self).__name__}({getattr(self, '_client', None)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:  # noqa: B027 - a grant that keeps something open may close it
        """Do nothing: no network connection outlives its request."""

    async def get_token(self, connection_id: str = "", /) -> Token:
        """Have a token issued, and return it.

        Raises:
            TokenError: If there is none; its attributes say why.
        """
        outcome = await run(self.flow(), self._client.wire.transport)
        token = outcome if isinstance(outcome, TokenError) else outcome.token
        if isinstance(token, TokenError):
            raise token
        return token

    async def credentials_mark(self, connection_id: str = "", /) -> bytes | None:
        """Tell the credentials in use from others, without telling them."""
        return await run(self._mark(), self._client.wire.transport)

    def _mark(self) -> Flow[bytes]:
        return self._client.mark()

    def flow(self) -> Flow[Issued | TokenError]:
        """Ask for a token, as steps that somebody else takes."""
        return ask(self._client, self._asking())

    @abstractmethod
    def _asking(self) -> Asking:
        """What to ask the token endpoint."""
