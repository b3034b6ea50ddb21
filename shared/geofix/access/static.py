"""Static tokens: a file of names and hashes, so that who reads the file cannot call.

# name:SHA-256 of the token in hex[:roles by commas, without which the role is locate]
museum:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
curator:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752:locate,admin
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from geofix.access.callers import LOCATE, NAME, ROLES, Caller
from geofix.errors import ConfigurationError
from geofix.watched import read_bytes

SETTING = "GEOFIX_TOKENS_FILE"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest(token: str) -> str:
    """SHA-256 of a token in hex. Tokens are random, so a slow hash would protect nothing more."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


def line(name: str, token: str, roles: frozenset[str]) -> str:
    """The line of the file for a token.

    Raises:
        ValueError: the name or a role is none.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, and . _ @ - after the first, at most 128")
    if not roles or not roles <= ROLES:
        raise ValueError(f"roles are {', '.join(sorted(ROLES))}")
    return f"{name}:{digest(token)}:{','.join(sorted(roles))}"


def read_tokens(path: Path) -> dict[str, Caller]:
    """Callers by the hash of their token.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not as it should be; the message gives its number.
    """
    callers: dict[str, Caller] = {}
    for number, text in enumerate(read_bytes(path, SETTING).decode(errors="replace").splitlines(), 1):
        entry = text.strip()
        if not entry or entry.startswith("#"):
            continue
        name, _, rest = entry.partition(":")
        hashed, _, listed = rest.partition(":")
        roles = frozenset(listed.split(",")) if listed else frozenset({LOCATE})
        if not NAME.fullmatch(name) or not _DIGEST.fullmatch(hashed) or not roles <= ROLES:
            raise ConfigurationError(
                f"{SETTING}: line {number} of {path} is not name:SHA-256[:roles]; `geofix token` prints such a line"
            )
        if hashed in callers:
            raise ConfigurationError(f"{SETTING}: line {number} of {path} repeats a token")
        callers[hashed] = Caller(name, roles)
    return callers
