"""The supervisor: starts the platform's processes, waits for readiness, starts again what dies, and stops all of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console

from geofix.bundle import Bundle
from geofix.errors import GeofixError
from geofix.platform.child import RESTARTS, WINDOW_S, Child, Spec
from geofix.platform.directory import DataDirectory
from geofix.platform.errors import PlatformError
from geofix.platform.loading import Progress
from geofix.platform.ports import HOST, claim_port
from geofix.platform.probe import Probe
from geofix.platform.reporter import Reporter
from geofix.platform.specs import GATEWAY, RETRIEVAL, WEB, Plan, make_plan

READY_S = 60.0
"""A service that is alive but not ready after so many seconds will not become so."""
STOP_S = 4.0
"""Seconds that children have to end by themselves after SIGTERM, beyond the time to drain."""

UNCHECKED_S = 10.0
"""Seconds that retrieval has to be ready where nothing looked through the gallery first; then the loader does."""

_STARTING_TICK_S, _RUNNING_TICK_S = 0.05, 0.2
_SETTING_WRONG = 2
"""Exit code of a process that cannot use its settings: starting it again would change nothing."""


class Platform:
    """All services, an embedded Milvus Lite and a Valkey, as processes of this machine, for one bundle.

        with Platform(Path("bundles/orbit"), Path("/tmp/geofix")) as platform:
            call(platform.address)

    `GEOFIX_*` settings of this process reach the services; GEOFIX_MILVUS_URI and GEOFIX_REDIS_URL replace the embedded ones.

    Args:
        bundle: the bundle's directory.
        data_dir: where the gallery is kept between starts, and the logs; one platform at a time uses it.
        port: the gateway's, on 127.0.0.1; 0 takes a free one.
        console: where lines go; default is stderr.
        ready_s: see `READY_S`.
        web_port: the page's, on 127.0.0.1; 0 takes a free one, None starts no page.
    """

    def __init__(
        self,
        bundle: Path,
        data_dir: Path,
        port: int = 0,
        console: Console | None = None,
        ready_s: float = READY_S,
        web_port: int | None = None,
    ) -> None:
        self._bundle_directory = bundle
        self._port = port
        self._web_port = web_port
        self._ready_s = ready_s
        self._report = Reporter(console)
        self._directory = DataDirectory(data_dir)
        self._children: dict[str, Child] = {}
        self._probes: dict[str, Probe] = {}
        self._progress = Progress()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: GeofixError | None = None
        self._began = 0.0
        self._bundle: Bundle
        self._plan: Plan
        self._unchecked = False  # the gallery was closed cleanly, and retrieval started without a look at it

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return f"{HOST}:{self._port}"

    @property
    def addresses(self) -> dict[str, str]:
        """host:port of what was started, by name."""
        return {name: child.spec.address for name, child in self._children.copy().items() if child.spec.address}

    @property
    def metrics(self) -> dict[str, str]:
        """URLs of the services' Prometheus metrics, by name; empty unless GEOFIX_METRICS asks for them."""
        return {name: child.spec.metrics for name, child in self._children.copy().items() if child.spec.metrics}

    @property
    def page(self) -> str:
        """URL of the page; empty where there is none."""
        return "" if self._web_port is None else f"http://{HOST}:{self._web_port}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children that run, by name: valkey, gallery, classifier, embedder, retrieval, gateway, web."""
        found = {name: child.pid for name, child in self._children.copy().items()}
        return {name: pid for name, pid in found.items() if pid is not None}

    def start(self) -> bool:
        """Start everything and wait until it is ready; False where `request_stop` came first.

        Raises:
            GeofixError: it cannot start; the message says why and what to do. Nothing is left running.
        """
        self._began = time.monotonic()
        self._bundle = bundle = Bundle.load(self._bundle_directory)
        self._port = claim_port(self._port)
        if self._web_port is not None:
            self._web_port = claim_port(self._web_port, "--web-port")
        self._directory.acquire()
        try:
            milvus = self._directory.milvus(bundle)
            milvus.mkdir(parents=True, exist_ok=True)
            self._plan = make_plan(bundle, self._port, milvus, web_port=self._web_port)
            self._unchecked = self._plan.embedded and self._directory.take_clean(bundle)
            # A thread that lives as long as the platform: on Linux children end with the thread that started them.
            self._thread = threading.Thread(target=self._run, name="geofix-platform", daemon=True)
            self._thread.start()
            while not self._ready.wait(0.1) and not self._over.is_set():
                pass
        except BaseException:
            self.stop()
            raise
        if self._error is not None:
            raise self._error
        return self._ready.is_set() and not self._stopping.is_set()

    def wait(self) -> None:
        """Wait until the platform was stopped.

        Raises:
            PlatformError: it had to stop because a service could not be kept alive.
        """
        while not self._over.wait(0.2):
            pass
        if self._error is not None:
            raise self._error

    def request_stop(self) -> None:
        """Ask it to stop; returns at once, so that a signal handler can call it. `start` and `wait` then return."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop everything; returns when no process is left. May be called at any time, and again."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._directory.release()

    def __enter__(self) -> Platform:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What follows runs in the platform's own thread.

    def _run(self) -> None:
        try:
            self._start_children()
            while not self._stopping.is_set():
                self._look()
                self._stopping.wait(_RUNNING_TICK_S if self._ready.is_set() else _STARTING_TICK_S)
        except GeofixError as error:
            self._error = error
        except Exception as error:  # no defect of ours may leave processes behind
            self._error = PlatformError(f"the supervisor failed: {type(error).__name__}: {error}")
        finally:
            self._report.close()
            self._stop_children()
            if self._ended_well():
                self._directory.leave_clean(self._bundle)
            self._directory.release()
            self._over.set()

    def _ended_well(self) -> bool:
        """Whether everything was ready and retrieval has just closed the gallery by itself."""
        retrieval = self._children.get(RETRIEVAL)
        served = self._ready.is_set() and self._error is None and self._plan.embedded
        return served and retrieval is not None and retrieval.exit_code == 0

    def _start_children(self) -> None:
        plan = self._plan
        if not self._unchecked:
            self._launch(plan.loader, pipe=True)
        for spec in plan.services:
            if (
                spec.name != RETRIEVAL or self._unchecked
            ):  # it waits for the loader: Milvus Lite serves one process at a time
                self._launch(spec)
        for extra in (plan.valkey, plan.web):
            if extra is not None:
                self._launch(extra)

    def _launch(self, spec: Spec, *, pipe: bool = False) -> None:
        child = Child(spec, self._directory.log(spec.name), pipe)
        self._children[spec.name] = child
        if spec.address:
            self._probes[spec.name] = Probe(spec)
        child.start()
        if pipe:
            self._progress.follow(child.output)

    def _look(self) -> None:
        for name, child in list(self._children.items()):
            if child.exit_code is not None:
                self._ended(name, child)
            elif child.spec.address and not child.ready:
                self._look_for_readiness(name, child)
        if not self._ready.is_set():
            self._report.loading(self._progress.done, self._progress.total)
            services = [self._children.get(spec.name) for spec in self._plan.services]
            web = self._children.get(WEB)  # it may have been given up
            if all(child is not None and child.ready for child in services) and (web is None or web.ready):
                self._ready.set()

    def _look_for_readiness(self, name: str, child: Child) -> None:
        if self._probes[name].ready():
            child.ready = True
            seconds = time.monotonic() - child.started_at
            metrics = f"  {child.spec.metrics}" if child.spec.metrics else ""
            admin = f"  gallery admin at {child.spec.admin}" if child.spec.admin else ""
            self._report.say(name, f"{child.spec.address}  ready after {seconds:.1f} s{metrics}{admin}", "green")
            if child.spec.admin:
                self._directory.write_admin(child.spec.admin)
        elif refusal := self._probes[name].refusal():
            raise PlatformError(f"{name} cannot serve: {refusal}")
        elif name == RETRIEVAL and self._unchecked and time.monotonic() - child.started_at > UNCHECKED_S:
            self._look_after_all(child)
        elif time.monotonic() - child.started_at > self._ready_s and self._can_be_ready(name):
            if not child.spec.essential:
                self._give_up_on(name, child, f"is not ready after {self._ready_s:.0f} s")
                return
            raise PlatformError(
                f"{name} runs but is not ready after {self._ready_s:.0f} s; the last lines of {child.log}:\n"
                f"{child.last_lines()}"
            )

    def _look_after_all(self, retrieval: Child) -> None:
        """The gallery is not as it was closed: the loader mends it before retrieval starts again."""
        self._unchecked = False
        retrieval.kill()
        self._probes.pop(RETRIEVAL).close()
        del self._children[RETRIEVAL]
        self._report.say(RETRIEVAL, "finds no gallery: looking through it", "yellow")
        self._launch(self._plan.loader, pipe=True)

    def _can_be_ready(self, name: str) -> bool:
        """Whether the time counts: the gateway cannot be ready before the services that it calls."""
        others = [self._children.get(spec.name) for spec in self._plan.services if spec.name != GATEWAY]
        if name != GATEWAY or not all(child is not None and child.ready for child in others):
            return name != GATEWAY
        newest = max(child.started_at for child in others if child is not None)
        return time.monotonic() - newest > self._ready_s

    def _ended(self, name: str, child: Child) -> None:
        if child.spec is self._plan.loader and child.exit_code == 0:
            del self._children[name]
            self._loaded(child)
            return
        if child.exit_code == _SETTING_WRONG:
            reason = self._progress.error if child.pipe else ""
            raise PlatformError(reason or f"{name} cannot start:\n{child.last_lines()}")
        restart = child.may_restart()
        if restart:
            self._report.say(
                name,
                f"died ({child.how_it_ended()}); started again, {restart} of at most {RESTARTS} times in {WINDOW_S:.0f} s",
                "yellow",
            )
            child.start(first=False)
            if child.pipe:
                self._progress.follow(child.output)
        elif child.spec.essential:
            raise PlatformError(
                f"{name} died {RESTARTS + 1} times within {WINDOW_S:.0f} s ({child.how_it_ended()}), so all services are "
                f"stopped; the last lines of {child.log}:\n{child.last_lines()}"
            )
        else:
            self._give_up_on(name, child, f"died {RESTARTS + 1} times within {WINDOW_S:.0f} s")

    def _loaded(self, loader: Child) -> None:
        self._report.close()
        if self._progress.total:
            seconds = time.monotonic() - loader.started_at
            self._report.say(loader.spec.name, f"{self._progress.total:,} images loaded in {seconds:.1f} s", "green")
        self._launch(next(spec for spec in self._plan.services if spec.name == RETRIEVAL))

    def _give_up_on(self, name: str, child: Child, what: str) -> None:
        """The platform does without a child that is not essential."""
        child.kill()
        del self._children[name]
        self._report.say(name, f"{what}: going on without it, {child.spec.without} (see {child.log})", "yellow")

    def _stop_children(self) -> None:
        for probe in self._probes.values():
            probe.close()
        # The edges first: calls in flight through them still need the others.
        order = [(WEB,), (GATEWAY,), [name for name in self._children if name not in (WEB, GATEWAY)]]
        for group in ([self._children[name] for name in names if name in self._children] for names in order):
            deadline = time.monotonic() + self._plan.drain_s + STOP_S
            for child in group:
                child.terminate()
            for child in group:
                if not child.wait(deadline - time.monotonic()):
                    child.kill()
