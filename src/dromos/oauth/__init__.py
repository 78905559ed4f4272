"""Tokens from the gateway."""

from dromos.oauth.gateway import ConnectionRequest, OAuthClient

__all__ = ["ConnectionRequest", "OAuthClient"]
