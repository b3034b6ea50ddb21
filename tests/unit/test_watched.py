"""What is read from files follows them; a change that cannot be read changes nothing, and is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from geofix.errors import ConfigurationError
from geofix.telemetry.metrics import RELOAD_FAILURES
from geofix.watched import LOOK_EVERY_S, Watched, read_secret

SETTING = "GEOFIX_TEST_FILE"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_a_look(self) -> None:
        self.now += LOOK_EVERY_S


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    RELOAD_FAILURES.enable(made)
    yield made
    RELOAD_FAILURES.disable()


def test_a_change_is_read_at_the_next_look(tmp_path: Path) -> None:
    file, clock = tmp_path / "secret", Clock()
    file.write_text("one\n")
    watched = Watched(SETTING, [file], lambda: read_secret(file, SETTING), clock)
    file.write_text("another\n")
    assert watched.get() == "one", "not looked at yet"
    clock.pass_a_look()
    assert (watched.get(), watched.generation) == ("another", 1)
    clock.pass_a_look()
    assert (watched.get(), watched.generation) == ("another", 1)


@pytest.mark.parametrize("broken", ["empty", "absent", "a directory"])
def test_what_cannot_be_read_leaves_the_last_good_value(
    tmp_path: Path, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    file, clock = tmp_path / "secret", Clock()
    file.write_text("good")
    watched = Watched(SETTING, [file], lambda: read_secret(file, SETTING), clock)
    file.unlink()
    if broken == "empty":
        file.touch()
    elif broken == "a directory":
        file.mkdir()
    for _ in range(3):
        clock.pass_a_look()
        assert watched.get() == "good"
    assert registry.get_sample_value("geofix_reload_failures_total", {"setting": SETTING}) == 1
    (record,) = caplog.records
    assert f"{SETTING}: {file}" in record.message
    if file.is_dir():
        file.rmdir()
    file.write_text("better")
    clock.pass_a_look()
    assert watched.get() == "better"


def test_a_file_that_is_switched_by_a_link_is_read(tmp_path: Path) -> None:
    """As Kubernetes changes a Secret: the link leads to another directory of the same size and, it may be, the same time."""
    clock = Clock()
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(name)
    link = tmp_path / "data"
    link.symlink_to("first")
    file = link / "secret"
    watched = Watched(SETTING, [file], lambda: read_secret(file, SETTING), clock)
    link.unlink()
    link.symlink_to("other")
    clock.pass_a_look()
    assert watched.get() == "other"


def test_at_the_start_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{SETTING}: .*absent cannot be read"):
        Watched(SETTING, [tmp_path / "absent"], lambda: read_secret(tmp_path / "absent", SETTING))
