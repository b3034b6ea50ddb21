"""A bundle: the directory that holds everything the services must agree on (docs/bundle.md describes the files)."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geofix.calibration import Calibration
from geofix.cells import Cells
from geofix.decision import DecisionRule
from geofix.errors import InvalidInput, MismatchError, Reason
from geofix.images import Preprocessing

FORMAT = 1
MANIFEST = "bundle.json"
BACKBONE, CLASSIFIER, EMBEDDER = "backbone.onnx", "classifier.onnx", "embedder.onnx"
CELLS, GALLERY, CALIBRATION, MODEL_CARD = "cells.parquet", "gallery.parquet", "calibration.json", "MODEL_CARD.md"
REQUIRED = (BACKBONE, CLASSIFIER, EMBEDDER, CELLS, GALLERY)


class FileEntry(BaseModel):
    """One file of a bundle: its SHA-256 in hex and its size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: str = Field(
        pattern="^[a-z][a-z0-9_]{0,31}$", description="also part of the gallery's collection name in Milvus"
    )
    version: str = Field(default="", pattern="^([0-9a-f]{16})?$", description="content hash of everything else here")
    license: str
    description: str
    preprocessing: Preprocessing
    # Left out where it is the default, so that bundles written before it was there keep their hash.
    takes: Literal["image", "feature"] = Field(
        "image",
        exclude_if=lambda value: value == "image",
        description="`feature`: the backbone is the identity, and requests bring its features; there is no preprocessing",
    )
    feature_dim: int = Field(ge=1)
    embedding_dim: int = Field(ge=1)
    cell_count: int = Field(ge=1)
    decision: DecisionRule
    files: dict[str, FileEntry]

    def check_takes_images(self) -> None:
        """Raise InvalidInput where the bundle takes features alone."""
        if self.takes == "feature":
            raise InvalidInput(
                f"the model {self.name} takes features of {self.feature_dim} values, not images: send the feature",
                Reason.IMAGE_FORMAT_UNSUPPORTED,
            )

    def content_version(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON without `version`."""
        body = self.model_dump(mode="json", exclude={"version"})
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


class Bundle:
    """A verified bundle on disk. Tables and calibration are read on first use."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest

    @classmethod
    def load(cls, directory: Path | str, verify: bool = True) -> Bundle:
        """Read `bundle.json` and check it, and with `verify` also every file's hash, before anything is used.

        Raises:
            MismatchError: reason BUNDLE_INVALID; the message names the directory, the file and what to do.
        """
        bundle = cls.describe(directory)
        for name, entry in bundle.manifest.files.items():
            _check_file(bundle.directory, name, entry, verify)
        return bundle

    @classmethod
    def describe(cls, directory: Path | str) -> Bundle:
        """Read and check `bundle.json` alone, for services that need none of the other files.

        Raises:
            MismatchError: reason BUNDLE_INVALID; as `load`.
        """
        root = Path(directory)
        manifest = _read_manifest(root)
        missing = [name for name in REQUIRED if name not in manifest.files]
        if missing:
            raise _invalid(root, f"{MANIFEST} lists no {', '.join(missing)}")
        if manifest.content_version() != manifest.version:
            raise _invalid(
                root, f"{MANIFEST} was changed after it was written (its version does not match its content)"
            )
        return cls(root, manifest)

    @property
    def version(self) -> str:
        """`<name>@<content hash>`: the model_version of every answer."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def gallery_alias(self) -> str:
        """The Milvus alias that names the live version of this bundle's gallery."""
        return f"gallery_{self.manifest.name}"

    @property
    def gallery_version(self) -> str:
        """The bundle's own gallery as a version: the name of its collection in Milvus."""
        return f"{self.gallery_alias}_{self.manifest.files[GALLERY].sha256[:16]}"

    def path(self, name: str) -> Path:
        """Path of one of the bundle's files."""
        return self.directory / name

    @cached_property
    def cells(self) -> Cells:
        """The partition.

        Raises:
            MismatchError: the table contradicts the manifest.
        """
        try:
            cells = Cells.read(self.path(CELLS))
        except (ValueError, KeyError, OSError) as error:
            raise _invalid(self.directory, f"{CELLS} cannot be read: {error}") from error
        if len(cells) != self.manifest.cell_count:
            raise _invalid(
                self.directory, f"{CELLS} has {len(cells)} cells, {MANIFEST} says {self.manifest.cell_count}"
            )
        return cells

    @cached_property
    def calibration(self) -> Calibration:
        """The bundle's calibration; without a file, one that gives no radius and refuses nothing."""
        path = self.path(CALIBRATION)
        if CALIBRATION not in self.manifest.files:
            return Calibration(rule=self.manifest.decision)
        try:
            calibration = Calibration.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise _invalid(self.directory, f"{CALIBRATION} cannot be read: {error}") from error
        if calibration.rule != self.manifest.decision:
            raise _invalid(self.directory, f"{CALIBRATION} was fitted for another decision rule than {MANIFEST} states")
        return calibration


def check_new(directory: Path) -> None:
    """Raise InvalidInput where a bundle's directory is anything but one to be made or an empty one: nothing is overwritten."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput(f"{directory} exists and is not empty: name another directory for the bundle")


def write_manifest(directory: Path, **fields: Any) -> Manifest:
    """Hash every file beside it and write `bundle.json`; `fields` are Manifest's but `files` and `version`.

    The manifest appears by rename, last, so that a half-written bundle has none.
    """
    files = {
        path.name: FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        for path in sorted(directory.iterdir())
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }
    draft = Manifest(files=files, **fields)
    manifest = draft.model_copy(update={"version": draft.content_version()})
    partial = directory / f".{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
    partial.replace(directory / MANIFEST)
    return manifest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(root: Path) -> Manifest:
    path = root / MANIFEST
    if not path.is_file():
        raise _invalid(root, f"there is no {MANIFEST} in it; name a bundle's directory, such as bundles/orbit")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the JSON"
        raise _invalid(root, f"{MANIFEST}: {where}: {first['msg']}") from error


def _check_file(root: Path, name: str, entry: FileEntry, verify: bool) -> None:
    path = root / name
    if Path(name).name != name or not path.is_file():
        raise _invalid(root, f"{name} is missing; copy the bundle again")
    if path.stat().st_size != entry.bytes or (verify and sha256_of(path) != entry.sha256):
        raise _invalid(
            root, f"{name} is not the file that {MANIFEST} describes (its hash differs); copy the bundle again"
        )


def _invalid(root: Path, what: str) -> MismatchError:
    return MismatchError(f"bundle {root}: {what}", Reason.BUNDLE_INVALID, {"bundle": str(root)})
