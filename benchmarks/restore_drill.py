"""The restore drill: the demo bundle's gallery backed up, lost, and restored into an empty Milvus Lite. About a minute.

Prints the rows lost, whether anything that they hold differs, and the answers that differ: which images come back for searches of
the whole gallery or of some cells, and in which order.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin, Query
from geofix.gallery.backup import back_up, restore
from geofix.gallery.backup_file import content_hash, read_rows
from geofix.gallery.loader import make_live
from geofix.gallery.store import Store
from started import default_bundle

K = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--searches", type=int, default=100)
    given = parser.parse_args()
    bundle = Bundle.load(given.bundle)
    with tempfile.TemporaryDirectory(prefix="geofix-restore-") as name:
        directory = Path(name)
        first = DirectAdmin(Store(str(directory / "first.db"), create=True), bundle)
        live = make_live(first, bundle)
        queries = searches(bundle, given.searches)
        before = [[hit.id for hit in hits] for hits in first.search(live.name, queries)]
        began = time.monotonic()
        kept = back_up(first, live, directory / "gallery.geofix")
        print(
            f"backup     {kept.rows:,} rows, {kept.path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - began:.1f} s"
        )
        first.close()
        second = DirectAdmin(Store(str(directory / "second.db"), create=True), bundle)
        began = time.monotonic()
        restored = restore(second, bundle, kept.path)
        print(f"restore    {time.monotonic() - began:.1f} s, verified")
        second.promote(restored.name, restored.calibration)
        again = back_up(second, restored, directory / "again.geofix")
        # As if both said the same of themselves: when they were made and promoted may differ, their rows may not.
        same = content_hash(replace(again, info=kept.info, said=kept.said), read_rows(again)) == kept.sha256
        after = [[hit.id for hit in hits] for hits in second.search(restored.name, queries)]
        second.close()
    print(f"rows lost             {live.images - restored.images}")
    print(f"content of all rows   {'the same' if same else 'differs'}, to the last bit")
    print(f"answers that differ   {sum(a != b for a, b in zip(before, after, strict=True))} of {len(queries)} searches")


def searches(bundle: Bundle, count: int) -> list[Query]:
    """Random unit embeddings: a tenth over the whole gallery, the others into as many random cells as the rule searches."""
    rng = np.random.default_rng(0)
    found: list[Query] = []
    for number in range(count):
        vector = rng.normal(size=bundle.manifest.embedding_dim).astype(np.float32)
        cells = rng.choice(bundle.manifest.cell_count, bundle.manifest.decision.cells, replace=False).tolist()
        found.append((vector / np.linalg.norm(vector), () if number % 10 == 0 else cells, K))
    return found


if __name__ == "__main__":
    main()
