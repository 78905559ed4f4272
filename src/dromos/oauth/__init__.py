"""Where tokens come from: a gateway, any OAuth 2 server, a cloud's identity, or what you have."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dromos.oauth._client import ClientOptions
    from dromos.oauth.aws import AwsCredentials
    from dromos.oauth.azure import AzureToken
    from dromos.oauth.callable import CallableToken
    from dromos.oauth.client_credentials import ClientCredentials
    from dromos.oauth.device_code import DeviceCode, DevicePrompt
    from dromos.oauth.env import EnvToken
    from dromos.oauth.file import FileToken
    from dromos.oauth.gateway import ConnectionRequest, OAuthClient
    from dromos.oauth.google import GoogleToken
    from dromos.oauth.jwt_bearer import JWTBearer
    from dromos.oauth.refresh_token import RefreshToken
    from dromos.oauth.static import StaticToken
    from dromos.oauth.store import FileStore, MemoryStore, StoredGrant, TokenStore
    from dromos.oauth.token_exchange import TokenExchange
    from dromos.redaction import Secret

__all__ = [
    "AwsCredentials",
    "AzureToken",
    "CallableToken",
    "ClientCredentials",
    "ClientOptions",
    "ConnectionRequest",
    "DeviceCode",
    "DevicePrompt",
    "EnvToken",
    "FileStore",
    "FileToken",
    "GoogleToken",
    "JWTBearer",
    "MemoryStore",
    "OAuthClient",
    "RefreshToken",
    "Secret",
    "StaticToken",
    "StoredGrant",
    "TokenExchange",
    "TokenStore",
]

_HOME: Final = {
    "AwsCredentials": "dromos.oauth.aws",
    "AzureToken": "dromos.oauth.azure",
    "CallableToken": "dromos.oauth.callable",
    "ClientCredentials": "dromos.oauth.client_credentials",
    "ClientOptions": "dromos.oauth._client",
    "ConnectionRequest": "dromos.oauth.gateway",
    "DeviceCode": "dromos.oauth.device_code",
    "DevicePrompt": "dromos.oauth.device_code",
    "EnvToken": "dromos.oauth.env",
    "FileStore": "dromos.oauth.store",
    "FileToken": "dromos.oauth.file",
    "GoogleToken": "dromos.oauth.google",
    "JWTBearer": "dromos.oauth.jwt_bearer",
    "MemoryStore": "dromos.oauth.store",
    "OAuthClient": "dromos.oauth.gateway",
    "RefreshToken": "dromos.oauth.refresh_token",
    "Secret": "dromos.redaction",
    "StaticToken": "dromos.oauth.static",
    "StoredGrant": "dromos.oauth.store",
    "TokenExchange": "dromos.oauth.token_exchange",
    "TokenStore": "dromos.oauth.store",
}
"""Imported when they are asked for: who uses one source does not pay for the others."""


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found
