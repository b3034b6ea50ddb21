"""The page in a real browser, against the whole platform with the demo bundle."""

from __future__ import annotations

import csv
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from browsers import FLAGS, chromium
from geofix.geo import haversine_km
from image_factory import chunk, encoded, png

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FLORIDA = ROOT / "samples" / "florida.jpg"
ITALY = ROOT / "samples" / "italy.jpg"
SECONDS = 30
PAGE_BYTES = 1_500_000
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, site: Any) -> Iterator[Open]:
    """Opens the page and waits for its map. Afterwards: nothing was asked of another origin, and no script failed."""
    elsewhere: list[str] = []
    broken: list[str] = []
    contexts = []

    def open_page(path: str = "/", **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on(
            "request", lambda r: elsewhere.append(r.url) if not r.url.startswith((site.url, "blob:", "data:")) else None
        )
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda m: broken.append(m.text) if "Security Policy" in m.text else None)
        page.goto(site.url + path)
        if path == "/":
            until(page, "performance.getEntriesByName('geofix:map').length > 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert broken == []


def until(page: Page, expression: str) -> None:
    end = time.monotonic() + SECONDS
    while not page.evaluate(f"() => {expression}"):  # not wait_for_function: the page forbids eval
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def choose(page: Page, *files: Path | dict[str, Any]) -> None:
    page.set_input_files("#file", list(files))  # type: ignore[arg-type]


def drop(page: Page, path: Path) -> None:
    data = page.evaluate_handle(
        """([name, bytes]) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" })); return data; }""",
        [path.name, list(path.read_bytes())],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#map", event, {"dataTransfer": data})


def file(name: str, data: bytes, kind: str = "image/jpeg") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": data}


def answered(page: Page) -> dict[str, Any]:
    """The answer that the page shows, as its JSON export has it."""
    expect(page.locator("#evidence")).to_be_visible()
    return dict(json.loads(exported(page, "JSON")))


def exported(page: Page, label: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=label, exact=True).click()
    return Path(download.value.path()).read_bytes()


def test_a_dropped_image_is_located(visit: Open, capsys: pytest.CaptureFixture[str]) -> None:
    page = visit()
    drop(page, FLORIDA)
    expect(page.locator("#sure")).to_contain_text(re.compile(r"90 % sure within \d+ km"))
    expect(page.locator("#place")).to_contain_text("United States")
    answer = answered(page)
    assert haversine_km(answer["lat"], answer["lon"], 27.9, -81.9) < 100
    expect(page.locator("#map .dot")).to_have_count(len(answer["neighbors"]))
    expect(page.locator("#map .radius-label")).to_have_count(2)
    expect(page.locator("#map .estimate")).to_have_count(1)
    expect(page.locator("#map path.cell")).to_have_count(sum(len(c["outline"]["coordinates"]) for c in answer["cells"]))
    until(page, "[...document.querySelectorAll('#evidence img')].filter((i) => i.naturalWidth === 192).length > 3")
    sizes = page.evaluate(
        """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter((e) => !/\\/map\\/|\\/v1\\/|\\/samples\\//.test(e.name)).reduce((sum, e) => sum + e.encodedBodySize, 0)"""
    )
    drawn = page.evaluate("() => performance.getEntriesByName('geofix:map')[0].startTime")
    took = page.evaluate("() => performance.getEntriesByName('geofix:answer')[0].duration")
    with capsys.disabled():
        print(
            f"\npage: map after {drawn:.0f} ms, answer {took:.0f} ms after the drop, {sizes:,} bytes without the basemap"
        )
    assert 100_000 < sizes < PAGE_BYTES


def test_pointing_at_an_image_marks_its_dot_and_the_other_way_round(visit: Open) -> None:
    page = visit()
    choose(page, FLORIDA)
    first = page.locator("#evidence [data-index='0']")
    first.hover()
    expect(page.locator("#map .dot.lit")).to_have_count(1)
    expect(page.locator("#about")).to_contain_text("similarity")
    colour = first.evaluate("(e) => e.style.getPropertyValue('--of')")
    assert page.locator("#map .dot.lit").evaluate("(e) => e.style.getPropertyValue('--of')") == colour
    page.locator("#place").hover()
    page.locator("#map .dot").nth(1).focus()
    expect(page.locator("#evidence [data-index='1']")).to_have_class("lit")
    expect(page.locator("#map .dot.lit")).to_have_attribute("aria-label", re.compile("^Similar image 2, "))


def test_with_the_truth_everything_shows_how_far_off_it_is(visit: Open) -> None:
    page = visit()
    page.get_by_role("button", name="Tasmania").click()
    page.locator("#compare").click()
    answer = answered(page)
    with (ROOT / "samples" / "truth.csv").open(newline="") as table:
        truth = next((float(r["lat"]), float(r["lon"])) for r in csv.DictReader(table) if r["file"] == "tasmania.jpg")
    assert (answer["truth"]["lat"], answer["truth"]["lon"]) == truth
    off = float(haversine_km(answer["lat"], answer["lon"], *truth))
    expect(page.locator("#off")).to_have_text(f"off by {off:.1f} km" if off < 10 else f"off by {off:.0f} km")
    expect(page.locator("#legend")).to_contain_text("Distance to the truth")
    near = [float(haversine_km(n["lat"], n["lon"], *truth)) for n in answer["neighbors"]]
    shown = page.locator("#map .dot").evaluate_all("(all) => all.map((e) => e.style.getPropertyValue('--of'))")
    steps = {1: "#28339b", 25: "#3f79bd", 200: "#74b3dd", 750: "#fbd96a", 2500: "#f08447"}
    assert shown == [next((c for km, c in steps.items() if d <= km), "#c9252b") for d in near]
    page.get_by_role("button", name="Forget it").click()
    expect(page.locator("#legend")).to_contain_text("Similar images")
    page.locator("#pick").click()
    page.mouse.click(420, 300)
    expect(page.locator("#off")).to_contain_text("off by")
    expect(page.locator("#map .truth-pin")).to_have_count(1)


def test_what_is_shown_can_be_taken_away(visit: Open) -> None:
    page = visit()
    choose(page, FLORIDA)
    answer = answered(page)
    collection = json.loads(exported(page, "GeoJSON"))
    kinds = [f["properties"]["kind"] for f in collection["features"]]
    assert kinds.count("estimate") == 1
    assert kinds.count("neighbor") == len(answer["neighbors"])
    assert kinds.count("radius") == 2
    assert collection["features"][0]["geometry"]["coordinates"] == pytest.approx(
        [answer["lon"], answer["lat"]], abs=1e-6
    )
    ring = next(f for f in collection["features"] if f["properties"]["kind"] == "radius")
    edge = ring["geometry"]["coordinates"][0][0]
    assert edge[0] == edge[-1]
    for lon, lat in edge:
        away = 1000 * float(haversine_km(answer["lat"], answer["lon"], lat, lon))
        assert away == pytest.approx(ring["properties"]["radius_m"], rel=1e-3)
    document = ElementTree.fromstring(exported(page, "KML"))
    assert len(document.findall(".//{http://www.opengis.net/kml/2.2}Placemark")) > len(answer["neighbors"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Picture (PNG)").click()
    with Image.open(download.value.path()) as card:
        assert (card.format, card.size) == ("PNG", (1200, 630))
        assert len(card.convert("RGB").getcolors(1_000_000) or ()) > 500


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_position_in_a_file_is_shown_apart_and_not_used(visit: Open, kind: str) -> None:
    page = visit()
    with Image.open(FLORIDA) as image:
        exif = image.getexif()
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0)})
        data, plain = encoded(image, kind, exif=exif), encoded(image, kind)
    choose(page, file("here", data, f"image/{kind.lower()}"))
    expect(page.locator("#exif")).to_contain_text("33.86° S, 151.21° E")
    with_position = answered(page)
    away = float(haversine_km(with_position["lat"], with_position["lon"], -33.85833, 151.21))
    expect(page.locator("#exif")).to_contain_text(f"{away:,.0f} km from the estimate")
    choose(page, file("there", plain, f"image/{kind.lower()}"))
    expect(page.locator("#answer .file")).to_have_text("there")
    without = answered(page)
    assert (with_position["lat"], with_position["lon"]) == (without["lat"], without["lon"])
    expect(page.locator("#exif")).to_have_count(0)


def test_a_file_that_is_no_image_is_told_so(visit: Open) -> None:
    page = visit()
    choose(page, file("notes.txt", b"not an image", "text/plain"))
    expect(page.locator("#failure")).to_have_text(re.compile("not a JPEG, PNG or WebP"))
    choose(page, file("empty.jpg", b""))
    expect(page.locator("#failure")).to_have_text("The file is empty.")


def test_a_photo_of_60_mb_is_made_smaller_here(visit: Open, tmp_path: Path) -> None:
    side = 4500  # an uncompressed PNG
    rows = (b"\0" + bytes(range(256)) * 53)[: 3 * side + 1].ljust(3 * side + 1, b"\0") * side
    large = tmp_path / "large.png"
    header = png(side, side, 8, 2, b"")
    large.write_bytes(header[:33] + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b""))
    assert large.stat().st_size > 60_000_000
    page = visit()
    choose(page, large)
    expect(page.locator("#notice")).to_have_text(
        re.compile("over this server's limit of 20 MB, so a copy of 2048 × 2048 pixels")
    )
    tail = tmp_path / "broken.png"
    tail.write_bytes(large.read_bytes()[:25_000_000])
    tail.write_bytes(b"junk" + tail.read_bytes())
    choose(page, tail)
    expect(page.locator("#failure")).to_have_text(
        re.compile("over this server's limit of 20 MB, and this browser cannot read it")
    )


def test_a_double_click_asks_once(visit: Open) -> None:
    page = visit()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/v1/locate" in r.url else None)
    page.get_by_role("button", name="Florida").dblclick()
    expect(page.locator("#sure")).to_be_visible()
    choose(page, FLORIDA)
    choose(page, FLORIDA)
    expect(page.locator("#strip button.done")).to_have_count(2)  # the sample, and the file
    assert len(asked) == 2
