"""`geofix gallery add --engine ray`: the stages of the plain engine on many workers, by Ray Data.

The driver splits the source into parts; a worker reads, embeds and writes a part, and only its report comes back. Ray gives the
part of a worker that died to another. Rows are written under their content hash, so what the dead one had written is found there.
One actor keeps the claims of all, so that the same bytes in two parts become one row.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from geofix.bundle import Bundle
from geofix.errors import WIRE_ERRORS, ConfigurationError, GeofixError, Reason, Unavailable
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.layout import GalleryInfo
from geofix.ingest.add import Adder, AddOptions, job_of
from geofix.ingest.claims import Book, BookClaims
from geofix.ingest.embed import Embeds
from geofix.ingest.ray_running import imported_ray
from geofix.ingest.report import Report
from geofix.ingest.sources import Source
from geofix.ingest.split import split
from geofix.ingest.writer import patiently

LEAST_IMAGES, MOST_IMAGES = 100, 8_000
"""Images of a part: as many as the writer holds, so that rows of one partition go together; fewer of a small source."""
PARTS_EACH = 4
"""Parts of a source for each worker, so that one that is done early finds more to do."""
PATIENCE = 10
"""Workers that may die over one part; an image that ends the process that reads it would otherwise do so forever."""
SOURCES, REPORTS = TypeAdapter(Source), TypeAdapter(Report)


@dataclass(frozen=True)
class Cluster:
    """What the workers need; the functions run there.

    Attributes:
        bundle: the bundle.
        admin: opens the gallery.
        embeds: makes what embeds.
        workers: how many.
        cpus: cores of each.
        gpus: GPUs of each.
    """

    bundle: Callable[[], Bundle]
    admin: Callable[[Bundle], GalleryAdmin]
    embeds: Callable[[Bundle], Embeds]
    workers: int
    cpus: float = 1.0
    gpus: float = 0.0


class RayAdder:
    """Adds a source to a version that is being filled, as `Adder` does.

    Args:
        admin: of the gallery, for this process.
        cluster: what the workers need.
        options: how to add; near-duplicates are kept, for no worker sees all images.
        say: a line for people.
        progress: called with the report so far, from time to time.
    """

    def __init__(
        self,
        admin: GalleryAdmin,
        cluster: Cluster,
        options: AddOptions = AddOptions(),
        say: Callable[[str], None] = lambda _line: None,
        progress: Callable[[Report], None] = lambda _report: None,
    ) -> None:
        self._admin, self._cluster, self._options = admin, cluster, options
        self._say, self._progress = say, progress

    def run(self, version: str, source: Source) -> Report:
        """Add everything that is not there yet; returns when the database has acknowledged all of it. Inside `ray_running`.

        Raises:
            GeofixError: as `Adder.run`; ConfigurationError: Ray is not installed, or near-duplicates are to be left out.
        """
        if self._options.near_bits is not None:
            raise ConfigurationError(
                "--skip-near-duplicates needs one process that sees all images: use --engine plain"
            )
        ray = imported_ray()
        started, job = time.perf_counter(), job_of(source)
        images = source.images.resolve() if source.images is not None else None
        source = replace(source, path=source.path.resolve(), images=images)
        parts = list(split(source, self._part_images(source)))
        info = self._wait(lambda: self._admin.begin_add(version, job))
        report = Report(info.name)
        try:
            for part in self._reports(ray, info, parts):
                report.merge(part)
                report.seconds = time.perf_counter() - started
                self._progress(report)
        except ray.exceptions.RayError as error:
            raise Unavailable(
                f"Ray failed ({type(error).__name__}): run it again, and it goes on where it stopped"
            ) from error
        self._wait(lambda: self._admin.finish_add(version, job, report.added))
        return report

    def _part_images(self, source: Source) -> int:
        wanted = (source.count() or 0) // (PARTS_EACH * self._cluster.workers)
        return min(max(wanted, LEAST_IMAGES), MOST_IMAGES)

    def _reports(self, ray: Any, info: GalleryInfo, parts: list[Source]) -> Iterator[Report]:
        """The reports of the parts as they come.

        Raises:
            GeofixError: a worker's.
        """
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        book = ray.remote(num_cpus=0)(Book).remote()
        rows = [{"number": n, "part": SOURCES.dump_json(part).decode()} for n, part in enumerate(parts)]
        done = ray.data.from_items(rows, override_num_blocks=max(1, len(rows))).map_batches(
            Worker,
            fn_constructor_args=(self._cluster, info, self._options, book),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=self._cluster.workers, max_tasks_in_flight_per_actor=1),
            num_cpus=self._cluster.cpus,
            num_gpus=self._cluster.gpus,
            max_task_retries=PATIENCE,
        )
        for row in done.iter_rows():
            if row["failure"]:
                raise FAILURES.validate_json(row["failure"]).error()
            yield REPORTS.validate_json(row["report"])

    def _wait(self, work: Callable[[], GalleryInfo]) -> GalleryInfo:
        return patiently(work, self._options.patience_s, self._say)


class Worker:
    """An actor that adds parts, one after another."""

    def __init__(self, cluster: Cluster, info: GalleryInfo, options: AddOptions, book: Any) -> None:
        self._cluster, self._info, self._options, self._book = cluster, info, options, book
        self._opened: tuple[GalleryAdmin, Bundle, Embeds] | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Add the parts of a batch; an error of ours is an answer, for to try it again would not help."""
        reports, failures = [], []
        for number, part in zip(batch["number"], batch["part"], strict=True):
            report, failure = self._add(int(number), SOURCES.validate_json(part))
            reports.append(REPORTS.dump_json(report).decode())
            failures.append(FAILURES.dump_json(failure).decode() if failure is not None else "")
        return {"report": reports, "failure": failures}

    def _add(self, number: int, part: Source) -> tuple[Report, Failure | None]:
        claims = BookClaims(self._book, number, imported_ray().get)
        try:
            adder = Adder(*self._open(), self._options, claims=claims)
            return adder.fill(self._info, part.items()), None
        except GeofixError as error:
            return Report(), Failure.of(error)

    def _open(self) -> tuple[GalleryAdmin, Bundle, Embeds]:
        """What the parts are added with; opened with the first of them, so that what is wrong with it is an answer too."""
        if self._opened is None:
            bundle = self._cluster.bundle()
            self._opened = self._cluster.admin(bundle), bundle, self._cluster.embeds(bundle)
        return self._opened


@dataclass(frozen=True)
class Failure:
    """An error of ours on its way from a worker: the name of its class, and what it says."""

    kind: str
    message: str
    reason: Reason
    metadata: dict[str, str]

    @classmethod
    def of(cls, error: GeofixError) -> Failure:
        """That of an error."""
        return cls(type(error).__name__, error.message, error.reason, error.metadata)

    def error(self) -> GeofixError:
        """The error."""
        kinds: dict[str, type[GeofixError]] = {kind.__name__: kind for kind in (*WIRE_ERRORS, ConfigurationError)}
        return kinds.get(self.kind, GeofixError)(self.message, self.reason, self.metadata)


FAILURES = TypeAdapter(Failure)
