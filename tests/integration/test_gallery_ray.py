"""`geofix gallery add --engine ray` on a real Milvus server: what the plain engine makes, though a worker dies on the way."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import make_bundle
from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.items import Why
from geofix.ingest.sources import Source
from milvus_server import MilvusServer
from own_images import write_images

IMAGES, WAITS_AT, SECONDS = 2_400, 280, 120.0
"""Parts are of 300 images, and so the first is half written when it waits."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"), name="many")


def command(bundle: Bundle, *arguments: str) -> list[str]:
    geofix = str(Path(sys.executable).with_name("geofix"))
    return [geofix, "gallery", "add", *arguments, "--engine", "ray", "--bundle", str(bundle.directory)]


def rows_of(admin: DirectAdmin, version: str) -> dict[str, ImageRow]:
    """All rows, as they were written: those that can be searched, and those set aside, which have a feature."""
    pages = [admin.read(version, partition=partition) for partition in range(admin.get(version).partitions)]
    pages.append(admin.read(version, set_aside=True))
    assert all(read.intact for page in pages for read in page)
    return {read.row.id: read.row for page in pages for read in page}


def assert_same(got: dict[str, ImageRow], want: dict[str, ImageRow]) -> None:
    assert want.keys() == got.keys()
    for image, row in want.items():
        same = got[image]
        np.testing.assert_allclose(same.embedding, row.embedding, rtol=0, atol=1e-6)
        assert (same.feature is None) is (row.feature is None)
        if same.feature is not None and row.feature is not None:
            np.testing.assert_allclose(same.feature, row.feature, rtol=0, atol=1e-5)
        assert (same.lat, same.lon, same.cell_id, same.fields) == (row.lat, row.lon, row.cell_id, row.fields)


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
    waits = table.parent / f"{WAITS_AT:05d}.png"
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
        of_its_part = [row.id for row in want.values() if str(row.fields["file"]) < waits.name]
        end = time.monotonic() + SECONDS
        while not (written := admin.find(many, of_its_part)):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        os.kill(reader_of(waits), signal.SIGKILL)
        (tmp_path / "whole.png").write_bytes(data)
        os.replace(tmp_path / "whole.png", waits)
        os.close(writer)
        assert process.wait(SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(SECONDS)

    assert 0 < len(written) < WAITS_AT
    said = log.read_text()
    assert f"{Why.BAD_COORDINATES.value}" in said
    assert f"1 x {Why.TWO_PLACES.value}" in said
    got = rows_of(admin, many)
    assert expected.added == IMAGES == len(want)
    assert_same(got, want)
    counted = re.search(r": ([\d,]+) added \(.*\), ([\d,]+) there before, ", said)
    assert counted is not None, said
    added, before = (int(count.replace(",", "")) for count in counted.groups())
    assert added + before - IMAGES in (0, 1)  # one is in the table twice, and may have been written when it came again
    assert before >= len(written)  # of the worker that died
    assert admin.get(many).unfinished == ()
    admin.delete(many)
    admin.close()


def write_shard(path: Path, table: Path, images: range) -> None:
    """A shard of WebDataset with some images of a table."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with tarfile.open(path, "w") as shard:
        for index in images:
            said = {key: rows[index][key] for key in ("lat", "lon", "title")}
            said |= {key: float(said[key]) for key in ("lat", "lon")}
            for name, data in (("png", (table.parent / rows[index]["file"]).read_bytes()), ("json", json.dumps(said))):
                content = data if isinstance(data, bytes) else data.encode()
                member = tarfile.TarInfo(f"{index:05d}.{name}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


def test_shards_are_read_by_workers(
    bundle: Bundle, milvus: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)
    table = write_images(tmp_path / "images", 150)
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards / "a.tar", table, range(50))
    write_shard(shards / "b.tar", table, range(50, 150))
    with Store(str(tmp_path / "milvus.db"), create=True) as lite:
        plain = DirectAdmin(lite, bundle)
        version = plain.create("plain", 150).name
        assert Adder(plain, bundle, LocalNetworks(bundle)).run(version, Source(shards)).added == 150
        want = rows_of(plain, version)
    with Store(milvus.uri) as server:
        admin = DirectAdmin(server, bundle)
        many = admin.create("shards", 150).name
        environment = {**os.environ, "GEOFIX_MILVUS_URI": milvus.uri}
        done = subprocess.run(
            command(bundle, many, str(shards)), env=environment, capture_output=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert_same(rows_of(admin, many), want)
        assert verify(admin, many, bundle).filled == 150
        admin.delete(many)


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
