"""Tokens of an identity provider: JSON Web Tokens (RFC 7519), checked against its keys (JWKS, RFC 7517)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geofix.access.callers import NAME, ROLES, Caller
from geofix.errors import AccessDenied, ConfigurationError, Reason
from geofix.watched import Watched, read_bytes

SETTING = "GEOFIX_JWKS_FILE"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only signatures with a public key: a provider's published keys must not serve as shared secrets."""


@dataclass(frozen=True)
class Expected:
    """What a token must say: issuer and audience; and by how many seconds the clocks may differ."""

    issuer: str
    audience: str
    leeway_s: float


class Provider:
    """Checks tokens against the keys of a file, which is read again when it changes.

    Raises:
        ConfigurationError: the file cannot be read, or holds no keys.
    """

    def __init__(self, path: Path, expected: Expected) -> None:
        self._keys = Watched(SETTING, [path], lambda: _read_keys(path))
        self._expected = expected

    def caller(self, token: str) -> Caller:
        """Who a token stands for: its `sub`; its roles are those of ours in `roles` (a list) or `scope` (by spaces).

        Raises:
            AccessDenied: it is not signed by a key of the file, is over, is not yet, or is meant for others.
        """
        import jwt

        expected = self._expected
        try:
            key = self._keys.get().get(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                raise jwt.InvalidTokenError("it names no key of the provider")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                issuer=expected.issuer,
                audience=expected.audience,
                leeway=expected.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise AccessDenied(f"the token is refused: {error}", Reason.TOKEN_INVALID) from error
        name = str(claims["sub"])
        if not NAME.fullmatch(name):
            raise AccessDenied("the token is refused: its subject is no name that can be logged", Reason.TOKEN_INVALID)
        return Caller(name, _roles(claims))


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    listed = claims.get("roles", [])
    said = listed if isinstance(listed, list) else []
    scope = claims.get("scope", "")
    return ROLES & {*map(str, said), *(scope.split() if isinstance(scope, str) else [])}


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        import jwt
    except ImportError as error:
        raise ConfigurationError(f"{SETTING} needs PyJWT: pip install 'geofix[access]'") from error
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(read_bytes(path, SETTING)))
    except (ValueError, jwt.PyJWTError) as error:
        raise ConfigurationError(f"{SETTING}: {path} is no set of keys (JWKS): {error}") from error
    named = {str(key.key_id): key for key in keys.keys if key.key_id and key.key_type != "oct"}
    if not named:
        raise ConfigurationError(f"{SETTING}: {path} holds no public key with a `kid`")
    return named
