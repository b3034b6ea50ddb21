"""A user's own gallery on the page: thumbnails where they were asked for, else words and a link that only a click opens."""

from __future__ import annotations

import contextlib
import io
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from bundle_factory import image_of, make_bundle
from command import geofix
from geofix.platform import Platform
from own_images import write_images

pytestmark = pytest.mark.e2e

IMAGES = 30
SECONDS = 30


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a table of images and of these."""
    return write_images(tmp_path_factory.mktemp("images"), IMAGES).parent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of bundle and data."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def platform(home: Path) -> Iterator[Platform]:
    with Platform(make_bundle(home / "bundle").directory, home / "data", web_port=0) as started:
        yield started


def make_live(home: Path, version: str, images: Path, *options: str) -> None:
    """A version of the images becomes the gallery that is searched."""
    where = ("--bundle", home / "bundle", "--data-dir", home / "data")
    create = ("create", version, "--expect", str(IMAGES), *options)
    for words in (create, ("add", version, images / "images.csv"), ("promote", version)):
        ran = geofix("gallery", *words, *where)
        assert ran.code == 0, ran.err


def answer(platform: Platform, version: str) -> dict[str, Any]:
    """By a version of the user's gallery, which the gateway notices at its next look."""
    image = image_of(47, 10)
    request = urllib.request.Request(f"{platform.page}/v1/locate", image, {"Content-Type": "image/png"})
    end = time.monotonic() + SECONDS
    while True:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            found: dict[str, Any] = json.load(response)
        if f"_{version}_" in found["gallery_version"]:
            return found
        assert time.monotonic() < end, found["gallery_version"]
        time.sleep(0.2)


@contextlib.contextmanager
def page_with_answer(platform: Platform, browser: Browser) -> Iterator[Page]:
    """The page after an image was given to it; it has asked nobody but the platform."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(platform.page)
    page.set_input_files("#file", {"name": "alps.png", "mimeType": "image/png", "buffer": image_of(47, 10)})
    yield page
    assert [url for url in asked if not url.startswith((platform.page, "blob:", "data:"))] == []
    context.close()


def test_without_thumbnails_a_neighbour_is_words_and_a_link(
    platform: Platform, browser: Browser, home: Path, images: Path
) -> None:
    make_live(home, "plain", images)
    found = answer(platform, "plain")
    assert {neighbor["thumbnail"] for neighbor in found["neighbors"]} == {None}
    with page_with_answer(platform, browser) as page:
        first = page.locator("#evidence [data-index='0']")
        expect(first).to_be_visible(timeout=SECONDS * 1000)
        expect(page.locator("#evidence img")).to_have_count(0)
        first.hover()
        expect(page.locator("#about a")).to_have_attribute("href", found["neighbors"][0]["picture"])


def test_thumbnails_of_ones_own_images_are_the_evidence(
    platform: Platform, browser: Browser, home: Path, images: Path
) -> None:
    make_live(home, "mine", images, "--thumbnails")
    found = answer(platform, "mine")
    assert found["neighbors"]
    for neighbor in found["neighbors"]:
        with urllib.request.urlopen(platform.page + neighbor["thumbnail"], timeout=SECONDS) as response:
            assert response.headers["Content-Type"] == "image/jpeg"
            thumbnail = Image.open(io.BytesIO(response.read()))
        assert max(thumbnail.size) <= 128
        number = int(neighbor["picture"].removeprefix("https://example.org/"))
        with Image.open(images / f"{number:05d}.png") as original:
            colours = [np.asarray(each.convert("RGB"), float).mean(axis=(0, 1)) for each in (thumbnail, original)]
        assert np.abs(colours[0] - colours[1]).max() < 12, "the picture of this neighbour, not of another"

    with page_with_answer(platform, browser) as page:
        expect(page.locator("#evidence img")).to_have_count(len(found["neighbors"]), timeout=SECONDS * 1000)
        first = page.locator("#evidence [data-index='0']")
        first.scroll_into_view_if_needed()
        expect(first.locator("img")).to_have_js_property("complete", True)
        assert 0 < first.locator("img").evaluate("(image) => image.naturalWidth") <= 128
        first.hover()
        expect(page.locator("#about a")).to_have_attribute("href", found["neighbors"][0]["picture"])
