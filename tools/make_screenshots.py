"""Takes the pictures of the page in docs/screenshots: the whole platform with the demo bundle, in a real browser.

    make screenshots      # some 2 minutes; it needs Chromium

Look at each afterwards. They are WebP files, together under 1 MB.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from geofix.platform import Platform

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs/screenshots"
SAMPLES = ROOT / "samples"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
MOST_BYTES = 1_000_000
_QUALITY = 70
_TIMEOUT_MS = 60_000


class Camera:
    """Opens the page of a platform in one state after the other, and keeps a picture of each."""

    def __init__(self, browser: Browser, platform: Platform) -> None:
        self._browser = browser
        self._platform = platform

    def take(self, name: str, prepare: Callable[[Page], None], **options: Any) -> None:
        """A picture `name`.webp of what `prepare` made of a fresh page."""
        context = self._browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", "color_scheme": "light"}
            | options
        )
        page = context.new_page()
        page.goto(self._platform.page)
        expect(page.locator("#samples")).to_be_visible()
        prepare(page)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(800)  # the map has come to rest, thumbnails are drawn
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shot.convert("RGB").save(OUT / f"{name}.webp", quality=_QUALITY, method=6)
        context.close()
        print(f"{name}.webp  {(OUT / f'{name}.webp').stat().st_size:,} bytes", flush=True)

    def kill(self, service: str) -> None:
        """End it at once; the platform starts it again after a moment."""
        os.kill(self._platform.pids[service], signal.SIGKILL)


def main() -> None:
    """Take all; exit code 1 where there is no browser or they are too large."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("there is no Chromium here: apt-get install chromium")
    expect.set_options(timeout=_TIMEOUT_MS)
    OUT.mkdir(exist_ok=True)
    os.chdir(ROOT)  # where the samples are found
    with (
        tempfile.TemporaryDirectory() as directory,
        Platform(ROOT / "bundles/orbit", Path(directory) / "data", web_port=0) as platform,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        camera = Camera(browser, platform)
        camera.take("page", lambda page: sample(page, "Nile Delta"))
        camera.take("dark", lambda page: sample(page, "Nile Delta"), color_scheme="dark")
        camera.take("truth", compared)
        camera.take("several", several)
        camera.take("not-localizable", refused)
        camera.take("narrow", lambda page: sample(page, "Nile Delta"), viewport={"width": 390, "height": 844})
        camera.take("degraded", lambda page: without(page, camera, "retrieval", "#degraded"))
        time.sleep(8)
        camera.take("service-down", lambda page: without(page, camera, "gateway", "#failure"))
        browser.close()
    total = sum(each.stat().st_size for each in OUT.glob("*.webp"))
    sys.exit(0 if total < MOST_BYTES else f"{total:,} bytes are more than {MOST_BYTES:,}")


def sample(page: Page, title: str) -> None:
    """The answer to a sample."""
    page.get_by_role("button", name=title).click()
    expect(page.locator("#sure")).to_be_visible()


def compared(page: Page) -> None:
    """An answer coloured by its distance to the truth."""
    sample(page, "Sri Lanka")
    page.locator("#compare").click()
    expect(page.locator("#off")).to_be_visible()


def several(page: Page) -> None:
    """All samples, and one file that is no image."""
    page.set_input_files("#file", sorted(SAMPLES.glob("*.jpg")))
    expect(page.locator("#strip button.done")).to_have_count(len(list(SAMPLES.glob("*.jpg"))))
    page.set_input_files("#file", {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"text"})
    expect(page.locator("#strip button.failed")).to_have_count(1)
    page.locator("#strip button").nth(1).click()
    expect(page.locator("#sure")).to_be_visible()


def refused(page: Page) -> None:
    """A drawing, which the model cannot place."""
    drawing = Image.linear_gradient("L").resize((320, 320)).convert("RGB")
    out = io.BytesIO()
    drawing.save(out, "PNG")
    page.set_input_files("#file", {"name": "drawing.png", "mimeType": "image/png", "buffer": out.getvalue()})
    expect(page.locator("p.guess")).to_be_visible()


def without(page: Page, camera: Camera, service: str, shown: str) -> None:
    """What is said while a service is away, about an image that nobody asked about before."""
    with Image.open(SAMPLES / "tasmania.jpg") as image:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=88 if service == "gateway" else 90)
    camera.kill(service)
    page.set_input_files("#file", {"name": "tasmania.jpg", "mimeType": "image/jpeg", "buffer": out.getvalue()})
    expect(page.locator(shown)).to_be_visible()


if __name__ == "__main__":
    main()
