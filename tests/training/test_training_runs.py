"""Runs as processes: killed, told to stop, resumed; two at once; and over a million rows."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image

from geofix_training.data.images import unreadable_rows
from geofix_training.engine.processes import Processes
from geofix_training.experiment import read_experiment
from geofix_training.stages.classifier import run_classifier
from geofix_training.stages.embedder import run_embedder
from geofix_training.stages.export import run_export
from geofix_training.stages.partition import Collection, run_partition
from geofix_training.stages.work import Work
from stage_data import ONE_THREAD, experiment, features, losses, run, train_command

ALONE = Processes(0, 1, torch.device("cpu"))
LONG = {
    "classifier": {
        "dropout": 0.1,
        "feature_noise": 0.05,
        "train": {
            "epochs": 24,
            "batch": 128,
            "learning_rate": 0.05,
            "checkpoint_every": 17,
            "log_every": 1,
            "ema": 0.9,
        },
    }
}
GIBIBYTE = 2**30


def quiet(_done: int, _all: int) -> None:
    pass


def partitioned(folder: Path, **changes: object) -> Work:
    given = folder / "given.npz"
    if not given.exists():
        features(1200).write(given)
    return run_partition(read_experiment(experiment(folder, **changes)), Collection(features=given), folder / "work")


def started(work: Work, until: int) -> subprocess.Popen[str]:
    """The classifier's training as a process that has logged `until` steps."""
    process = subprocess.Popen(
        train_command("classifier", "--work", work.folder), env=ONE_THREAD, stderr=subprocess.PIPE, text=True
    )
    log = work.stage("classifier") / "log.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > until):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def test_killed_and_stopped_runs_end_as_the_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, cut = partitioned(tmp_path / "whole", **LONG), partitioned(tmp_path / "cut", **LONG)
    run_classifier(whole, ALONE, quiet)
    wanted = losses(whole.folder)
    steps = len(wanted)
    killed = started(cut, until=20)
    killed.kill()
    killed.communicate(timeout=60)
    done = max(losses(cut.folder))
    assert 20 <= done < steps
    told = started(cut, until=done + 10)
    told.terminate()
    _, said = told.communicate(timeout=120)
    assert told.returncode == 143
    assert "the same command goes on from there" in said
    assert max(losses(cut.folder)) < steps
    run_classifier(cut, ALONE, quiet)
    found = losses(cut.folder)
    assert found.keys() == wanted.keys()
    assert list(found.values()) == pytest.approx(list(wanted.values()), abs=1e-4)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    train = {"epochs": 2, "batch": 128, "learning_rate": 0.05, "log_every": 1, "checkpoint_every": 5, "accumulate": 2}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (partitioned(tmp_path / name, classifier={"train": train}) for name in ("one", "two"))
    run_classifier(one, ALONE, quiet)
    done = run("classifier", "--work", two.folder, processes=2)
    assert done.returncode == 0, done.stderr
    assert list(losses(two.folder).values()) == pytest.approx(list(losses(one.folder).values()), abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_from_images_with_a_backbone_of_timm(tmp_path: Path, precision: str) -> None:
    """Files and broken files, several shapes, averaged weights; the exported backbone reads what training read."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        lat, lon = rng.uniform(-60, 60), rng.uniform(-170, 170)
        Image.new("RGB", (40 + number % 3 * 8, 48), (number * 6, 100, 200)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", lat, lon))
    (tmp_path / "7.png").write_bytes(b"not an image")
    (tmp_path / "manifest.csv").write_text("path,lat,lon\n" + "".join(f"{f},{a},{o}\n" for f, a, o in rows))
    normal = {"mean": [0.5] * 3, "std": [0.5] * 3, "resample": "bilinear"}
    train = {"epochs": 2, "batch": 8, "accumulate": 2, "ema": 0.5, "precision": precision}
    config = experiment(
        tmp_path,
        held_out={"validation": 0.1, "calibration": 0.0},
        partition={"max_cells": 12, "min_images": 1},
        backbone={"timm": "mobilenetv3_small_050", "preprocessing": {"size": 32, "fit": "short_side", **normal}},
        classifier={"train": train},
        embedder={"hidden": 16, "embedding_dim": 8, "positive_km": 3000, "train": train},
    )
    collection = Collection(manifest=tmp_path / "manifest.csv")
    work = run_partition(read_experiment(config), collection, tmp_path / "work")
    run_classifier(work, ALONE, quiet)
    run_embedder(work, ALONE, quiet)
    assert unreadable_rows(work.unreadable) == {7}
    stored = np.load(work.features)
    assert np.isnan(stored[7]).all()
    assert np.isfinite(np.delete(stored, 7, axis=0)).all()
    bundle = run_export(work, tmp_path / "out", None, quiet)
    from geofix.local import LocalEngine

    engine = LocalEngine(bundle)
    found = engine.feature((tmp_path / "4.png").read_bytes())
    assert found == pytest.approx(stored[4].astype(np.float32), abs=0.05 * float(np.abs(stored[4]).max()) + 0.01)
    assert len(engine.gallery.ids) <= 39


_PEAK = """
import atexit, runpy, sys
def peak():
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(peak)
sys.argv[0] = "geofix-train"
runpy.run_module("geofix_training", run_name="__main__")
"""


def peak_of(*words: str | Path) -> tuple[int, str]:
    """Most resident bytes of a command's own process, and what it printed. Not by getrusage, which counts this process too."""
    command = [sys.executable, "-c", _PEAK, *map(str, words)]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    line = next(text for text in done.stderr.splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) * 1024, done.stdout


@pytest.mark.timeout(200)
def test_a_million_rows_take_less_than_two_gibibytes(tmp_path: Path) -> None:
    """Partition, then a few steps of the classifier, each in a process of its own; the larger of the two counts."""
    rng = np.random.default_rng(0)
    count = 1_000_000
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (90, 120, 40)).save(buffer, "PNG")
    (tmp_path / "one.png").write_bytes(buffer.getvalue())
    lat, lon = np.degrees(np.arcsin(rng.uniform(-0.98, 0.98, count))), rng.uniform(-180, 180, count)
    names = pa.array(np.full(count, "one.png"))
    table = pa.table({"id": np.arange(count), "path": names, "lat": lat.round(5), "lon": lon.round(5)})
    pa.csv.write_csv(table, tmp_path / "manifest.csv")
    normal = {"mean": [0.5] * 3, "std": [0.5] * 3, "resample": "bilinear"}
    config = experiment(
        tmp_path,
        partition={"max_cells": 2000, "min_images": 50},
        backbone={"timm": "mobilenetv3_small_050", "preprocessing": {"size": 32, "fit": "squash", **normal}},
        classifier={"train": {"epochs": 1, "batch": 32, "max_steps": 3}},
        held_out={"validation": 0.0, "calibration": 0.01},
    )
    first, said = peak_of(
        "partition", "--config", config, "--manifest", tmp_path / "manifest.csv", "--work", tmp_path / "work"
    )
    assert "1,000,000 rows" in said
    second, _ = peak_of("classifier", "--work", tmp_path / "work")
    peak = max(first, second)
    print(f"peak resident memory {peak / GIBIBYTE:.2f} GiB")
    assert peak < 2 * GIBIBYTE
    with (tmp_path / "work" / "classifier" / "log.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 2
