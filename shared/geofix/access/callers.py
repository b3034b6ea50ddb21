"""A caller and its roles."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

LOCATE, ADMIN = "locate", "admin"
"""Roles: to ask where images are from, and to change the gallery."""
ROLES = frozenset({LOCATE, ADMIN})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
"""What a caller may be called: names go into logs, so they hold no white space and no control characters."""


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        name: for logs and quotas, as `NAME` has it.
        roles: of `ROLES`.
    """

    name: str
    roles: frozenset[str]


ANYONE = Caller("anyone", ROLES)
"""Who calls where no tokens are asked for."""

CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYONE)
"""Who makes the call that is being answered."""
