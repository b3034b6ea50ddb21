"""`geofix gallery add --engine ray` on a real Milvus server: what the plain engine makes, though a worker dies on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.items import Why
from geofix.ingest.sources import Source
from milvus_server import MilvusServer
from own_images import write_images

IMAGES, SECONDS = 250, 120.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"), name="many")


def command(bundle: Bundle, *arguments: str) -> list[str]:
    geofix = str(Path(sys.executable).with_name("geofix"))
    return [geofix, "gallery", "add", *arguments, "--engine", "ray", "--bundle", str(bundle.directory)]


def rows_of(admin: DirectAdmin, version: str) -> dict[str, ImageRow]:
    """All rows that can be searched, as they were written."""
    fields = ["id", "cell_id", "lat", "lon", "payload", "embedding"]
    admin.contents(version)  # brings them into memory
    found = admin.store.client.query(
        version, "cell_id >= 0", fields, consistency_level="Strong", timeout=60, limit=1000
    )
    rows = [ImageRow.from_record(record) for record in found]
    assert all(digest == row.digest for row, digest in rows)
    return {row.id: row for row, _ in rows}


def reader_of(fifo: Path) -> int:
    """The process that reads a named pipe; it may be a moment away from having it open."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            pid = int(descriptor.parts[2])
            with contextlib.suppress(OSError):
                if pid != os.getpid() and descriptor.readlink() == fifo:
                    return pid
        time.sleep(0.05)
    raise AssertionError(f"nobody reads {fifo}")


def test_a_worker_that_is_killed_loses_nothing_and_all_is_as_the_plain_engine_makes_it(
    bundle: Bundle, milvus: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)  # each costs a wait of its own
    table = write_images(tmp_path / "images", IMAGES)
    lines = table.read_text().splitlines()
    lines[10:10] = [lines[1].replace(",CC0", ",CC-BY"), "00002.png,1.5,2.5,,another place,CC0", "00003.png,95,3,,,"]
    table.write_text("\n".join(lines) + "\n")
    with Store(str(tmp_path / "milvus.db"), create=True) as lite:
        admin = DirectAdmin(lite, bundle)
        plain = admin.create("plain", IMAGES).name
        expected = Adder(admin, bundle, LocalNetworks(bundle)).run(plain, Source(table))
        want = rows_of(admin, plain)
    admin = DirectAdmin(Store(milvus.uri), bundle)
    many = admin.create("many", IMAGES).name

    # An image of the first part is a pipe: whoever reads it waits, and can be killed in the middle.
    waits = table.parent / "00060.png"
    data = waits.read_bytes()
    waits.unlink()
    os.mkfifo(waits)
    environment = {**os.environ, "GEOFIX_MILVUS_URI": milvus.uri}
    log = tmp_path / "add.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command(bundle, many, str(table)), "--workers", "2"], env=environment, stdout=output, stderr=output
        )
    try:
        writer = opened_for_writing(waits, process)
        os.kill(reader_of(waits), signal.SIGKILL)
        (tmp_path / "whole.png").write_bytes(data)
        os.replace(tmp_path / "whole.png", waits)
        os.close(writer)
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(SECONDS)

    said = log.read_text()
    assert f"{Why.BAD_COORDINATES.value}" in said
    assert f"1 x {Why.TWO_PLACES.value}" in said
    got = rows_of(admin, many)
    assert expected.added == IMAGES == len(want) + expected.set_aside
    assert want.keys() == got.keys()
    assert f"250 added ({expected.set_aside} of them set aside for the radii)" in said
    for image, row in want.items():
        same = got[image]
        np.testing.assert_allclose(same.embedding, row.embedding, rtol=0, atol=1e-6)
        assert (same.lat, same.lon, same.cell_id, same.fields) == (row.lat, row.lon, row.cell_id, row.fields)
    assert admin.get(many).unfinished == ()
    admin.delete(many)
    admin.close()


def opened_for_writing(fifo: Path, process: subprocess.Popen[bytes]) -> int:
    """A pipe's other end, once somebody reads it."""
    end = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None
        assert time.monotonic() < end
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody yet
            time.sleep(0.05)
