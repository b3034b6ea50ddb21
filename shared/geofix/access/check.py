"""The check that every call of a guarded service passes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from geofix.access.callers import ANYONE, Caller
from geofix.access.provider import Expected, Provider
from geofix.access.settings import AccessSettings
from geofix.access.static import SETTING, digest, read_tokens
from geofix.errors import AccessDenied, ConfigurationError, PermissionDenied, Reason
from geofix.watched import Watched

log = logging.getLogger("geofix.audit")

_SCHEME = "bearer "


class Access:
    """Who may call a service of one role.

    Args:
        settings: where the tokens are; with neither tokens nor keys everyone may call.
        role: that a caller needs.

    Raises:
        ConfigurationError: a file cannot be read or is wrong; keys without issuer or audience.
    """

    def __init__(self, settings: AccessSettings, role: str) -> None:
        self._role = role
        self._audit = settings.audit
        tokens, keys = settings.tokens_file, settings.jwks_file
        self._tokens = Watched(SETTING, [tokens], lambda: read_tokens(tokens)) if tokens is not None else None
        self._provider = None
        if keys is not None:
            if not (settings.jwt_issuer and settings.jwt_audience):
                raise ConfigurationError("GEOFIX_JWKS_FILE needs GEOFIX_JWT_ISSUER and GEOFIX_JWT_AUDIENCE beside it")
            expected = Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_leeway_s)
            self._provider = Provider(keys, expected)

    def caller(self, metadata: Iterable[tuple[str, Any]]) -> Caller:
        """Who calls, from the metadata of a call.

        Raises:
            AccessDenied: TOKEN_MISSING or TOKEN_INVALID.
            PermissionDenied: ROLE_MISSING; the token is good, but not for this.
        """
        if self._tokens is None and self._provider is None:
            return ANYONE
        given = next((str(value) for key, value in metadata if key == "authorization"), "")
        if not given.lower().startswith(_SCHEME):
            raise AccessDenied("a token is needed: send it as `authorization: Bearer ...`", Reason.TOKEN_MISSING)
        found = self._known(given[len(_SCHEME) :].strip())
        if self._role not in found.roles:
            raise PermissionDenied(
                f"{found.name} has not the role {self._role}", Reason.ROLE_MISSING, {"role": self._role}
            )
        return found

    def note(self, caller: Caller | None, method: str, code: str, elapsed_s: float) -> None:
        """Write the call into the audit log, where one is kept: nothing of what was asked or answered."""
        if self._audit:
            name = caller.name if caller is not None else "-"
            log.info("%s called %s: %s after %.0f ms", name, method.rpartition("/")[2], code, elapsed_s * 1000)

    def _known(self, token: str) -> Caller:
        # The hash is looked up, so how long that takes says nothing about the tokens themselves.
        known = self._tokens.get().get(digest(token)) if self._tokens is not None else None
        if known is not None:
            return known
        if self._provider is not None and token.count(".") == 2:
            return self._provider.caller(token)
        raise AccessDenied("the token is not known, or is no longer", Reason.TOKEN_INVALID)
