"""What a check says, and where it looks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from geofix.placement import CPU, asked_providers

DEFAULT_BUNDLE = Path("bundles/orbit")


class State(StrEnum):
    """How a thing is: as it should be, worth knowing, or in the way of something that the user asked for."""

    GOOD = "good"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        state: how it is.
        says: what was seen.
        remedy: what to do about it; empty where nothing is wrong.
    """

    name: str
    state: State
    says: str
    remedy: str = ""

    def record(self) -> dict[str, str]:
        """The JSON object of `--json`."""
        return {"check": self.name, "state": self.state.value, "says": self.says, "remedy": self.remedy}


def good(name: str, says: str) -> Finding:
    """As it should be."""
    return Finding(name, State.GOOD, says)


def note(name: str, says: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(name, State.NOTE, says, remedy)


def wrong(name: str, says: str, remedy: str) -> Finding:
    """In the way."""
    return Finding(name, State.WRONG, says, remedy)


@dataclass(frozen=True)
class Place:
    """Where to look, as `geofix up` would.

    Attributes:
        bundle: directory of the bundle.
        bundle_named: whether the user named it.
        data_dir: where gallery and logs are kept.
        milvus_uri: of the user's own Milvus; empty for the embedded one.
        redis_url: of the user's own Redis or Valkey; empty for the embedded one.
        redis_password_file: that holds its password; none where the URL says all.
        providers: execution providers that were asked for.
    """

    bundle: Path
    bundle_named: bool
    data_dir: Path
    milvus_uri: str = ""
    redis_url: str = ""
    redis_password_file: Path | None = None
    providers: tuple[str, ...] = (CPU,)

    @classmethod
    def from_environment(cls, bundle: Path | None, data_dir: Path | None) -> Place:
        """What options and variables name."""
        from geofix.platform.directory import default_data_dir

        given = os.environ
        named = bundle or (Path(given["GEOFIX_BUNDLE"]) if given.get("GEOFIX_BUNDLE") else None)
        return cls(
            bundle=named or DEFAULT_BUNDLE,
            bundle_named=named is not None,
            data_dir=data_dir or default_data_dir(),
            milvus_uri=given.get("GEOFIX_MILVUS_URI", ""),
            redis_url=given.get("GEOFIX_REDIS_URL", ""),
            redis_password_file=Path(given["GEOFIX_REDIS_PASSWORD_FILE"])
            if given.get("GEOFIX_REDIS_PASSWORD_FILE")
            else None,
            providers=asked_providers(given),
        )
