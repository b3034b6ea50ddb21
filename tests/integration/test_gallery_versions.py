"""Gallery versions and one's own images on real Milvus Lite: filled, verified, promoted; resumed; and what is wrong with them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from bundle_factory import EMBEDDING_DIM, make_bundle
from geofix.bundle import Bundle
from geofix.calibration import LEAST_QUERIES, Calibration
from geofix.errors import InvalidInput, MismatchError, NotFound, Reason, Unavailable
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import State
from geofix.gallery.loader import fill_own, make_live, own_calibration
from geofix.gallery.refit import refit
from geofix.gallery.rows import ImageRow, is_set_aside, set_aside_share
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.ingest.add import Adder, AddOptions
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.items import Why
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from geofix.ingest.stages import Prepared
from own_images import IMAGES, Adding, first_row, write_features, write_images
from stores import milvus_server


def test_a_version_from_empty_to_live_and_back(admin: DirectAdmin, bundle: Bundle, add: Adding, table: Path) -> None:
    fill_own(admin, bundle)
    assert fill_own(admin, bundle).images == 500  # twice without harm
    old = admin.promote(bundle.gallery_version, own_calibration(bundle))
    made = admin.create("mine", IMAGES, thumbnails=True)
    assert admin.create("mine", IMAGES).name == made.name
    with pytest.raises(MismatchError, match="not verified") as caught:
        admin.promote(made.name, "")
    assert caught.value.reason is Reason.GALLERY_UNFINISHED
    report = add(made.name, table)
    assert (report.added, report.already_there, dict(report.skipped)) == (IMAGES, 0, {})
    again = add(made.name, table)
    assert (again.added, again.already_there) == (0, IMAGES)  # changes nothing twice

    sealed = verify(admin, made.name, bundle)
    assert sealed.images + sealed.set_aside == IMAGES
    assert sealed.set_aside == report.set_aside > 0
    assert admin.live() == old.name
    live = admin.promote(made.name, "")
    assert (live.images, live.previous, admin.live()) == (IMAGES, old.name, made.name)
    assert verify(admin, made.name, bundle).digest == live.digest  # with those that were set aside

    hit = admin.search(made.name, [(first_row(admin, made.name).embedding, (), 1)])[0][0]
    assert hit.picture.startswith("https://example.org/")
    assert hit.fields["title"].startswith("Bild № ")
    assert hit.fields["licence"] == "CC0"
    jpeg = admin.contents(made.name).pictures([hit.id])[hit.id]
    assert jpeg.startswith(b"\xff\xd8")

    with pytest.raises(MismatchError, match="never changes") as caught:
        add(made.name, table)
    assert caught.value.reason is Reason.GALLERY_IN_USE
    with pytest.raises(MismatchError, match="is live"):
        admin.delete(made.name)
    with pytest.raises(InvalidInput, match="there is a gallery version") as exists:
        admin.create("mine", IMAGES)
    assert exists.value.reason is Reason.GALLERY_EXISTS

    assert admin.rollback().name == old.name
    with pytest.raises(MismatchError, match="until a moment ago") as draining:
        admin.delete(made.name)
    assert 0 < float(draining.value.metadata["retry_after_s"]) <= 75
    assert admin.promote(made.name, "").name == made.name
    assert admin.rollback().name == old.name
    admin.delete(made.name, force=True)
    assert [info.name for info in admin.versions()[0]] == [old.name]
    assert made.name not in " ".join(admin.store.client.list_collections())  # nor what lay beside it
    with pytest.raises(NotFound):
        admin.delete(made.name)


def test_what_somebody_promoted_stays_live_when_the_platform_starts(
    admin: DirectAdmin, bundle: Bundle, add: Adding, table: Path
) -> None:
    made = admin.create("kept", IMAGES)
    add(made.name, table)
    verify(admin, made.name, bundle)
    admin.promote(made.name, "")
    assert make_live(admin, bundle).name == made.name
    admin.rollback()
    admin.delete(made.name, force=True)


def test_the_radii_are_fitted_on_images_set_aside(
    admin: DirectAdmin, bundle: Bundle, networks: LocalNetworks, add: Adding, tmp_path: Path
) -> None:
    made = admin.create("fitted", 10_500)
    report = add(made.name, write_features(tmp_path / "features.parquet", bundle, 10_500))
    assert report.added == 10_500
    assert report.set_aside == sum(is_set_aside(f"f{i:06d}", 0.05) for i in range(10_500)) >= LEAST_QUERIES
    info = verify(admin, made.name, bundle)
    fitted = refit(admin, info, bundle, networks)
    assert fitted is not None
    assert fitted.radius is not None
    assert LEAST_QUERIES <= fitted.queries <= info.set_aside
    live = admin.promote(made.name, fitted.model_dump_json())
    assert (live.images, live.joined, live.set_aside) == (10_500, True, info.set_aside)
    assert Calibration.model_validate_json(live.calibration) == fitted
    other = fitted.model_copy(update={"rule": fitted.rule.model_copy(update={"k": 7})})
    wrong = admin.create("wrong", 10)
    add(wrong.name, write_features(tmp_path / "few.parquet", bundle, 10))
    sealed = verify(admin, wrong.name, bundle)
    with pytest.raises(MismatchError, match="another decision rule"):
        admin.promote(wrong.name, other.model_dump_json())
    assert refit(admin, sealed, bundle, networks) is None  # under 500: no radius
    admin.rollback()
    for name in (made.name, wrong.name):
        admin.delete(name, force=True)


def test_at_most_five_thousand_are_set_aside() -> None:
    assert set_aside_share(1_000) == 0.05
    assert set_aside_share(10_000_000) * 10_000_000 == pytest.approx(5_000)
    share = sum(is_set_aside(str(i), 0.05) for i in range(20_000)) / 20_000
    assert share == pytest.approx(0.05, abs=0.01)


def test_a_table_with_mistakes(admin: DirectAdmin, add: Adding, table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()[:6]
    base = table.parent
    (tmp_path / "note.txt").write_text("no image")
    lines += ["00006.png,95,3,,,", "00007.png,,,,,", "00008.png,x,3,,,", "00000.png,1,1,,,", "gone.png,1,1,,,"]
    lines += [f"{tmp_path}/note.txt,1,1,,,", lines[1], "00009.png,1,2,,,,,too,many"]
    (base / "mistakes.csv").write_text("\n".join(lines) + "\n")
    made = admin.create("mistakes", 100)
    report = add(made.name, base / "mistakes.csv")
    assert report.added == 5
    assert dict(report.skipped) == {
        Why.BAD_COORDINATES: 2,
        Why.NO_COORDINATES: 1,
        Why.TWO_PLACES: 1,
        Why.NO_FILE: 1,
        Why.UNREADABLE: 1,
        Why.TWICE: 1,
        Why.BAD_ROW: 1,
    }
    two = next(s for s in report.listed if s.why is Why.TWO_PLACES)
    assert two.name == "00000.png"
    assert "is kept, 1.00000, 1.00000 is not" in two.detail
    assert json.loads(json.dumps(report.record()))["added"] == 5
    admin.delete(made.name)


def test_a_directory_of_text_files(admin: DirectAdmin, add: Adding, tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.txt").write_text("text")
    (tmp_path / "looks-like.jpg").write_text("text")
    made = admin.create("text", 100)
    report = add(made.name, tmp_path)
    assert (report.added, dict(report.skipped)) == (0, {Why.NOT_AN_IMAGE: 4})
    with pytest.raises(MismatchError, match="no image"):
        verify(admin, made.name, admin._bundle)
    admin.delete(made.name)
    with pytest.raises(InvalidInput, match="no such file"):
        add(made.name, tmp_path / "absent")


def test_vectors_that_cannot_be_right(admin: DirectAdmin, add: Adding, tmp_path: Path) -> None:
    unit = np.eye(EMBEDDING_DIM)[0]
    embeddings = [unit, unit[:-1], 2 * unit, np.full(EMBEDDING_DIM, np.nan)]
    columns = {"id": ["ok", "short", "long", "nan"], "lat": [1.0] * 4, "lon": [2.0] * 4}
    pq.write_table(pa.table({**columns, "embedding": [list(e) for e in embeddings]}), tmp_path / "v.parquet")
    made = admin.create("vectors", 100)
    report = add(made.name, tmp_path / "v.parquet")
    assert (report.added, dict(report.skipped)) == (1, {Why.BAD_VECTOR: 3})
    admin.begin_add(made.name, "direct")
    for vector, reason in ((unit[:-1], Reason.EMBEDDING_INVALID), (2 * unit, Reason.EMBEDDING_INVALID)):
        with pytest.raises(InvalidInput) as caught:
            admin.insert(made.name, [ImageRow("x", 1.0, 2.0, 0, vector.astype(np.float32))])
        assert caught.value.reason is reason
    admin.delete(made.name)


def test_near_duplicates_are_left_out_on_request(admin: DirectAdmin, add: Adding, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = ["file,lat,lon"]
    for index in range(3):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize(
            (160, 120), Image.Resampling.BICUBIC
        )
        for quality in (90, 60):
            picture.save(tmp_path / f"{index}-{quality}.jpg", quality=quality)
            rows.append(f"{index}-{quality}.jpg,{index},{index}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    made = admin.create("near", 100)
    report = add(made.name, tmp_path / "t.csv", near_bits=4)
    assert (report.added, dict(report.skipped)) == (3, {Why.NEAR_DUPLICATE: 3})
    again = add(made.name, tmp_path / "t.csv", near_bits=4)  # remembers those of the first run
    assert (again.added, again.already_there, dict(again.skipped)) == (0, 3, {Why.NEAR_DUPLICATE: 3})
    admin.delete(made.name)


def test_a_bundle_other_than_the_gallerys(admin: DirectAdmin, tmp_path: Path) -> None:
    made = admin.create("ours", 100)
    other = DirectAdmin(admin.store, make_bundle(tmp_path / "other", seed=1))
    with pytest.raises(MismatchError, match="was built for") as caught:
        other.begin_add(made.name, "job")
    assert caught.value.reason is Reason.GALLERY_MISMATCH
    admin.delete(made.name)


def test_the_set_aside_are_not_found_before_they_join(
    admin: DirectAdmin, bundle: Bundle, add: Adding, tmp_path: Path
) -> None:
    made = admin.create("aside", 1_000)
    report = add(made.name, write_features(tmp_path / "features.parquet", bundle, 1_000))
    query = [(np.eye(1, EMBEDDING_DIM, dtype=np.float32)[0], (), 1_000)]
    before = {hit.id for hit in admin.search(made.name, query)[0]}
    assert before == {f"f{i:06d}" for i in range(1_000) if not is_set_aside(f"f{i:06d}", 0.05)}
    assert len(before) == 1_000 - report.set_aside < 1_000
    verify(admin, made.name, bundle)
    admin.promote(made.name, "")
    assert len({hit.id for hit in admin.search(made.name, query)[0]}) == 1_000
    admin.rollback()
    admin.delete(made.name, force=True)


def test_embedding_goes_on_while_the_database_takes_its_time(
    admin: DirectAdmin, bundle: Bundle, networks: LocalNetworks, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.ingest.writer.ROWS_TOGETHER", 8)
    monkeypatch.setattr("geofix.ingest.writer.MOST_HELD", 16)
    made = admin.create("slow", IMAGES)
    embedded = threading.Event()

    class Slow(DirectAdmin):
        """Its first rows are not taken before every image was embedded."""

        def insert(self, name: str, rows: Sequence[ImageRow]) -> None:
            assert embedded.wait(60)
            super().insert(name, rows)

    class Counting(LocalNetworks):
        """Says when the last image is embedded."""

        left = IMAGES

        def features(self, images: Sequence[Prepared]) -> NDArray[np.float32]:
            found = super().features(images)
            Counting.left -= len(images)
            if not Counting.left:
                embedded.set()
            return found

    report = Adder(Slow(admin.store, bundle), bundle, Counting(bundle)).run(made.name, Source(table))
    assert report.added == IMAGES
    admin.delete(made.name)


def test_two_adds_at_once_are_both_right(
    admin: DirectAdmin, bundle: Bundle, networks: LocalNetworks, table: Path, tmp_path: Path
) -> None:
    made = admin.create("twice", IMAGES)
    second = write_images(tmp_path / "second", 40, seed=7)
    sources = [Source(table), Source(table), Source(second)]
    reports: list[Report] = []
    threads = [
        threading.Thread(target=lambda s=s: reports.append(Adder(admin, bundle, networks).run(made.name, s)))
        for s in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(reports) == 3
    sealed = verify(admin, made.name, bundle)
    assert sealed.images + sealed.set_aside == IMAGES + 40
    admin.delete(made.name)


_ADD = """
import sys
from pathlib import Path
from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.ingest import writer
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
bundle = Bundle.load(sys.argv[1])
admin = DirectAdmin(Store(sys.argv[2]), bundle)
writer.ROWS_TOGETHER, writer.MOST_HELD = 8, 16  # many small writes
said = lambda report: print(report.added, flush=True)
Adder(admin, bundle, LocalNetworks(bundle), progress=said).run(sys.argv[3], Source(Path(sys.argv[4])))
"""


@pytest.mark.parametrize("rows", [1, 60, 120, 200])
def test_killed_at_any_point_add_loses_nothing_acknowledged(
    bundle: Bundle, networks: LocalNetworks, table: Path, tmp_path: Path, rows: int
) -> None:
    uri = str(tmp_path / "milvus.db")
    with Store(uri, create=True) as store:
        made = DirectAdmin(store, bundle).create("mine", IMAGES)
    acknowledged = 0
    command = [sys.executable, "-c", _ADD, str(bundle.directory), uri, made.name, str(table)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= rows:
                process.kill()
                break
    with Store(uri) as store:
        admin = DirectAdmin(store, bundle)
        contents = admin.contents(made.name)
        there = contents.count() + contents.count(set_aside=True)
        assert acknowledged <= there < IMAGES
        with pytest.raises(MismatchError, match="did not finish"):
            verify(admin, made.name, bundle)
        with pytest.raises(MismatchError, match="not verified"):
            admin.promote(made.name, "")
        report = Adder(admin, bundle, networks).run(made.name, Source(table))
        assert (report.already_there, report.added) == (there, IMAGES - there)
        sealed = verify(admin, made.name, bundle)
        assert sealed.images + sealed.set_aside == IMAGES
        assert admin.promote(made.name, "").state is State.VERIFIED


def test_a_locked_directory_is_refused(admin: DirectAdmin, bundle: Bundle) -> None:
    environment = {**os.environ, "GEOFIX_MILVUS_URI": admin.store.name, "GEOFIX_BUNDLE": str(bundle.directory)}
    command = [str(Path(sys.executable).with_name("geofix")), "gallery", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is open in another process" in done.stderr


_FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from pathlib import Path
from geofix.bundle import Bundle
from geofix.errors import GeofixError
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
bundle = Bundle.load(sys.argv[1])
admin = DirectAdmin(Store(sys.argv[2]), bundle)
try:
    Adder(admin, bundle, LocalNetworks(bundle)).run(sys.argv[3], Source(Path(sys.argv[4])))
except GeofixError as error:
    print(error.reason, error.message)
"""


def test_a_full_disk_stops_with_a_reason_and_the_next_run_goes_on(
    bundle: Bundle, networks: LocalNetworks, tmp_path: Path
) -> None:
    """The kernel refuses to let a file grow further, which is how a disk that is full looks to the database."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    uri = str(tmp_path / "milvus.db")
    source = write_features(tmp_path / "features.parquet", bundle, 3_000)
    with Store(uri, create=True) as store:
        made = DirectAdmin(store, bundle).create("mine", 3_000)
    command = [sys.executable, "-c", _FULL, str(bundle.directory), uri, made.name, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("STORAGE_FULL the disk of the vector database"), done.stdout + done.stderr[-2000:]
    with Store(uri) as store:
        admin = DirectAdmin(store, bundle)
        report = Adder(admin, bundle, networks).run(made.name, Source(source))
        assert report.added + report.already_there == 3_000
        sealed = verify(admin, made.name, bundle)
        assert sealed.images + sealed.set_aside == 3_000


def test_a_milvus_that_is_not_there_is_named(bundle: Bundle) -> None:
    with pytest.raises(Unavailable) as caught:
        DirectAdmin(Store("http://127.0.0.1:1"), bundle)
    assert caught.value.reason is Reason.GALLERY_UNAVAILABLE


def test_a_milvus_that_stays_away_ends_the_add_and_the_next_one_goes_on(
    bundle: Bundle, networks: LocalNetworks, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofix.gallery.layout.LEAST_PARTITIONS", 8)  # each costs a wait of its own
    monkeypatch.setattr("geofix.ingest.writer.ROWS_TOGETHER", 8)
    monkeypatch.setattr("geofix.ingest.writer.MOST_HELD", 16)
    with contextlib.ExitStack() as away:
        uri = away.enter_context(milvus_server(tmp_path / "milvus.db", 0))
        admin = DirectAdmin(Store(uri), bundle)
        made = admin.create("mine", IMAGES)
        said: list[str] = []
        adder = Adder(admin, bundle, networks, AddOptions(patience_s=1.0), said.append, lambda _report: away.close())
        with pytest.raises(Unavailable) as caught:
            adder.run(made.name, Source(table))
        admin.close()
    assert caught.value.reason is Reason.GALLERY_UNAVAILABLE
    assert any(line.startswith("waiting: ") for line in said)
    with milvus_server(tmp_path / "milvus.db", 0) as uri:
        admin = DirectAdmin(Store(uri), bundle)
        report = Adder(admin, bundle, networks).run(made.name, Source(table))
        assert report.already_there > 0
        assert report.added + report.already_there == IMAGES
        sealed = verify(admin, made.name, bundle)
        assert sealed.images + sealed.set_aside == IMAGES
        admin.close()
