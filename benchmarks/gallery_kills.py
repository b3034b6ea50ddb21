"""Kills `add` on Milvus Lite at random moments and resumes it; after each kill every row is read and compared with its digest.

Nothing that was acknowledged may be lost, no row may be damaged, and at the end of each round the version verifies.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from started import default_bundle

ADD = """
import sys
from pathlib import Path
from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.ingest import writer
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
bundle = Bundle.load(sys.argv[1], verify=False)
admin = DirectAdmin(Store(sys.argv[2]), bundle)
writer.ROWS_TOGETHER, writer.MOST_HELD = (int(value) for value in sys.argv[5:7])
said = lambda report: report.added and print(report.added, flush=True)
Adder(admin, bundle, LocalNetworks(bundle), progress=said).run(sys.argv[3], Source(Path(sys.argv[4])))
"""
STEPS = ((8, 64), (100, 800), (1_000, 8_000))
"""Rows of a call and rows that wait at most: many small writes, or few large ones."""


def write_source(path: Path, bundle: Bundle, rows: int, seed: int) -> None:
    """A table of random places, half with an embedding, half with a feature, so that some are set aside."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(rows, bundle.manifest.embedding_dim)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    feature = rng.normal(size=(rows, bundle.manifest.feature_dim)).astype(np.float32)
    half = rows // 2
    table = pa.table(
        {
            "id": [f"{seed:04d}-{row:08d}" for row in range(rows)],
            "lat": np.degrees(np.arcsin(rng.uniform(-1, 1, rows))),
            "lon": rng.uniform(-180, 180, rows),
            "embedding": [*embedding[:half], *[None] * (rows - half)],
            "feature": [*[None] * half, *feature[half:]],
            "title": [f"Bild № {row}" for row in range(rows)],
        }
    )
    pq.write_table(table.take(rng.permutation(rows)), path)


def damaged(admin: DirectAdmin, version: str) -> tuple[int, list[str]]:
    """How many rows there are, and those that are not what was written or lie where they do not belong."""
    info = next(each for each in admin.versions()[0] if each.name == version)
    count, wrong = 0, []
    for set_aside, partition in [(False, index) for index in range(info.partitions)] + [(True, 0)]:
        after: str | None = ""
        while after is not None:
            page = admin.read(version, set_aside=set_aside, partition=partition, after=after, limit=1000)
            count += len(page)
            for read in page:
                if not read.intact or not (set_aside or read.row.cell_id % info.partitions == partition):
                    wrong.append(read.row.id)
            after = page[-1].row.id if len(page) == 1000 else None
    return count, wrong


def kill_once(command: list[str], rng: random.Random) -> tuple[bool, int]:
    """Start `add`, kill it up to 1.5 s after its first acknowledgement: whether it was killed, and what it had acknowledged."""
    acknowledged = 0
    timer: threading.Timer | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if timer is None:
                timer = threading.Timer(rng.uniform(0, 1.5), process.kill)
                timer.start()
        code = process.wait(timeout=60)
    if timer is not None:
        timer.cancel()
    return code == -9, acknowledged


def main() -> None:
    """Print a line a kill, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--rows", type=int, default=12_000, help="of a round; a round ends when all are in")
    parser.add_argument("--seconds", type=float, default=330, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bundle = Bundle.load(default_bundle())
    networks, rng = LocalNetworks(bundle), random.Random(options.seed)  # noqa: S311
    kills = lost = torn = rounds = 0
    end = time.monotonic() + options.seconds
    while kills < options.kills and time.monotonic() < end:
        with tempfile.TemporaryDirectory(prefix="geofix-kills-") as temporary:
            source, uri = Path(temporary) / "source.parquet", f"{temporary}/milvus.db"
            write_source(source, bundle, options.rows, rounds)
            with Store(uri, create=True) as store:
                version = DirectAdmin(store, bundle).create("kills", options.rows).name
            there, killed = 0, True
            while killed and kills < options.kills and time.monotonic() < end:
                together, held = rng.choice(STEPS)
                command = [sys.executable, "-c", ADD, str(bundle.directory), uri, version, str(source)]
                killed, acknowledged = kill_once([*command, str(together), str(held)], rng)
                kills += killed
                with Store(uri) as store:
                    count, wrong = damaged(DirectAdmin(store, bundle), version)
                lost += max(0, there + acknowledged - count)
                torn += len(wrong)
                print(
                    f"kill {kills}: {together} rows a call, {there} + {acknowledged} acknowledged, {count} there",
                    end="",
                )
                print(f", damaged {wrong[:5]}" if wrong else "", flush=True)
                there = count
            with Store(uri) as store:
                admin = DirectAdmin(store, bundle)
                Adder(admin, bundle, networks).run(version, Source(source))
                info = verify(admin, version, bundle)
            lost += options.rows - info.images - info.set_aside
            rounds += 1
    print(f"{kills} kills in {rounds} rounds: {lost} acknowledged rows lost, {torn} rows damaged")


if __name__ == "__main__":
    main()
