"""Index files of a Milvus Lite directory that were cut off while they were written, by a kill or a full disk.

Milvus Lite 3.2.2 writes a segment's FLAT index in place, where it will be read. One that is cut off it reads all the same, and
the collection can never be loaded again ("No data left in file"), though no row is lost: without the file it makes a new one.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

log = logging.getLogger("geofix.gallery")

INDEXES = "collections/*/partitions/*/indexes/*.flat.idx"
"""Below the directory; each is an array in NumPy's format."""


def drop_cut_off_indexes(directory: Path) -> None:
    """Delete the index files that end before their array does. For who holds the directory's lock and has loaded nothing."""
    for path in directory.glob(INDEXES):
        try:
            np.lib.format.open_memmap(path, mode="r")  # reads the header and compares the length, no more
        except ValueError as error:
            log.warning("%s was cut off (%s): it is made again from its segment", path, error)
            path.unlink()
