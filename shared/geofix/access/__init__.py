"""Who may call: tokens of a file or of an identity provider, the roles that they carry, and a log of who asked."""

from __future__ import annotations

from geofix.access.callers import ANYONE, CALLER, Caller
from geofix.access.check import Access
from geofix.access.settings import AccessSettings

__all__ = ["ANYONE", "CALLER", "Access", "AccessSettings", "Caller"]
