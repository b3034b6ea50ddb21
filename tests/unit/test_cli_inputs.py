"""What a user names on the command line, as images."""

from __future__ import annotations

from pathlib import Path

import pytest

from geofix.cli.inputs import Input, find_inputs
from geofix.errors import InvalidInput


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "deep/c.webp", "deep/.git/d.jpg", "[1].jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "album"


def names(found: list[Input]) -> list[str]:
    return [given.name for given in found]


def test_a_folder_is_the_images_in_it(album: Path) -> None:
    assert names(find_inputs(["album"])) == ["album/[1].jpg", "album/a.png", "album/b.JPG"]
    assert names(find_inputs(["album"], recursive=True)) == [
        "album/[1].jpg",
        "album/a.png",
        "album/b.JPG",
        "album/deep/c.webp",
    ]


def test_a_pattern_is_the_files_that_match_and_a_file_comes_first(album: Path) -> None:
    assert names(find_inputs(["album/*.png", "album/**/*.webp"])) == ["album/a.png", "album/deep/c.webp"]
    (one,) = find_inputs(["album/[1].jpg"])
    assert one.read() == b"[1].jpg", "a file whose name looks like a pattern is that file"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("absent.jpg", "there is no such file"),
        ("album/*.gif", "no file matches"),
        ("empty", "no JPEG, PNG or WebP image in this folder; --recursive"),
    ],
)
def test_a_word_that_names_nothing_is_told_with_the_others(album: Path, word: str, why: str) -> None:
    Path("empty").mkdir()
    before, nothing, after = find_inputs(["album/a.png", word, "album/a.png"])
    assert before.read() == after.read() == b"a.png"
    with pytest.raises(InvalidInput, match=why):
        nothing.read()


def test_a_url_is_fetched_when_it_is_read() -> None:
    asked: list[str] = []

    def fetcher(url: str) -> bytes:
        asked.append(url)
        return b"data"

    (one,) = find_inputs(["https://example.org/a.jpg"], fetcher=fetcher)
    assert (asked, one.path) == ([], None)
    assert one.read() == b"data"
    assert asked == ["https://example.org/a.jpg"]
