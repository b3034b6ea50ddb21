"""What Milvus Lite 3.2.2 gets wrong and can be put right from outside, for whoever holds a directory's lock.

An index that was cut off while it was written, by a kill or a full disk: Milvus Lite writes a segment's FLAT index in place,
where it will be read. One that is cut off it reads all the same, and the collection can never be loaded again ("No data left in
file"), though no row is lost: without the file it makes a new one.

A collection that two threads ask for before it is open: each opens one of its own, and all but the last are forgotten, with what
was loaded or written through them.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger("geofix.gallery")

INDEXES = "collections/*/partitions/*/indexes/*.flat.idx"
"""Below the directory; each is an array in NumPy's format."""


def drop_cut_off_indexes(directory: Path) -> None:
    """Delete the index files that end before their array does, before anything is loaded."""
    for path in directory.glob(INDEXES):
        try:
            np.lib.format.open_memmap(path, mode="r")  # reads the header and compares the length, no more
        except ValueError as error:
            log.warning("%s was cut off (%s): it is made again from its segment", path, error)
            path.unlink()


def open_each_once(database: Any) -> None:
    """Have an engine, a `milvus_lite.MilvusLite`, open one collection at a time, so that none is opened twice."""
    opening = threading.RLock()
    engine_opens = database.get_collection

    def get_collection(*arguments: Any, **options: Any) -> Any:
        with opening:
            return engine_opens(*arguments, **options)

    database.get_collection = get_collection
