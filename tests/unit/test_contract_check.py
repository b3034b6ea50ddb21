"""A change of the contract that breaks its users is found, offline, in a copy without git."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from check_protos import RELEASED, breaking

FIELD = "  // Content hash, hex; at most 64 bytes.\n  string id = 1;\n"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", ""),
        ("  string id = 1;\n", "  string id = 1;\n  // New.\n  string more = 1000;\n", ""),
        (FIELD, "", 'Previously present field "1" with name "id" on message "GalleryImage" was deleted'),
        ("  string id = 1;\n", "  bytes id = 1;\n", 'Field "1" with name "id" on message "GalleryImage" changed type'),
        ("  string id = 1;\n", "  string id = 77;\n", 'Previously present field "1"'),
        ("  rpc DeleteVersion(DeleteVersionRequest) returns (DeleteVersionResponse);\n", "", "DeleteVersion"),
    ],
)
def test_what_breaks_clients_is_found_and_what_is_added_is_not(tmp_path: Path, old: str, new: str, found: str) -> None:
    protos = tmp_path / "proto"
    shutil.copytree(RELEASED.parent, protos)
    file = protos / "geofix/v1/gallery_admin_service.proto"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    said = breaking(protos, RELEASED.name)
    assert found in said
    assert bool(said) == bool(found)
