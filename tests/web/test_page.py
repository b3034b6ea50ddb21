"""The page in a real browser, against the whole platform with the demo bundle."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, FileChooser, Page, expect

from command import geofix
from geofix.geo import haversine_km
from image_factory import chunk, encoded, pattern, png

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FLORIDA = ROOT / "samples" / "florida.jpg"
ITALY = ROOT / "samples" / "italy.jpg"
SECONDS = 30
PAGE_BYTES = 1_500_000
expect.set_options(timeout=SECONDS * 1000)
Open = Callable[..., Page]


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


def paste(page: Page, name: str, data: bytes) -> None:
    page.evaluate(
        """([name, bytes]) => { const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
        document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true })); }""",
        [name, list(data)],
    )


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


def serious(page: Page) -> list[str]:
    page.wait_for_timeout(400)  # colours have come to rest
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {v['help']} {[n['html'][:120] for n in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


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


def test_a_pasted_image_is_located(visit: Open) -> None:
    page = visit()
    paste(page, "image.png", FLORIDA.read_bytes())  # as browsers name what comes from the clipboard
    expect(page.locator("#place")).to_contain_text("United States")
    expect(page.locator("#strip button")).to_have_count(1)
    paste(page, "other.png", b"text")
    expect(page.locator("#failure")).to_have_text(re.compile("not a JPEG, PNG or WebP"))


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


def test_all_of_it_works_without_a_mouse(visit: Open) -> None:
    page = visit()
    choosers: list[FileChooser] = []

    def opened(chooser: FileChooser) -> None:
        choosers.append(chooser)

    page.on("filechooser", opened)  # early: the browser is told a moment later that choosers are wanted
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'panel'")  # following the link moves the focus a moment later
    page.keyboard.press("Tab")
    expect(page.locator("#choose")).to_be_focused()
    page.keyboard.press("Enter")
    end = time.monotonic() + SECONDS
    while not choosers:
        assert time.monotonic() < end, "no file chooser was opened"
        page.wait_for_timeout(50)
    choosers[0].set_files([FLORIDA, ITALY])
    expect(page.locator("#live")).to_contain_text(re.compile("italy.jpg: near|florida.jpg: near"))
    expect(page.locator("#strip button")).to_have_count(2)
    page.locator("#strip button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#answer .file")).to_have_text("italy.jpg")
    expect(page.locator("#strip button").nth(1)).to_be_focused()
    page.locator("#compare, #pick").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.type("41.8, 13.4")
    page.keyboard.press("Enter")
    expect(page.locator("#off")).to_contain_text("off by")
    page.locator("#evidence [data-index='0']").focus()
    expect(page.locator("#map .dot.lit")).to_have_count(1)


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
    steps = {1: "#28339b", 25: "#2f6cb0", 200: "#74b3dd", 750: "#fbd96a", 2500: "#f08447"}
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_position_in_a_file_is_shown_apart_and_not_used(visit: Open, kind: str) -> None:
    page = visit()
    with Image.open(FLORIDA) as image:
        exif = image.getexif()
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0)})
        plain = encoded(image, kind)
        data = encoded(image, kind, exif=exif)
    if kind == "PNG":  # before the pixels, as cameras write it
        data = plain[:33] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[33:]
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


def test_what_cannot_be_located_says_so(visit: Open) -> None:
    page = visit()
    choose(page, file("drawing.png", encoded(pattern(), "PNG"), "image/png"))
    expect(page.locator("#place")).to_have_text("Cannot be located")
    expect(page.locator("p.guess")).to_contain_text("not to be relied on")
    expect(page.locator("#map .estimate.guess")).to_have_count(1)
    expect(page.locator("#map .radius-label")).to_have_count(0)


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


def test_of_ten_files_two_broken_eight_are_answered(visit: Open) -> None:
    page = visit()
    samples = sorted((ROOT / "samples").glob("*.jpg"))
    files: list[dict[str, Any]] = [file(p.name, p.read_bytes()) for p in samples]
    broken = [file("cut.jpg", FLORIDA.read_bytes()[:900]), file("text.jpg", b"text")]
    choose(page, *files[:4], *broken, *files[4:])
    expect(page.locator("#strip button")).to_have_count(10)
    expect(page.locator("#strip button.done")).to_have_count(8)
    expect(page.locator("#strip button.failed")).to_have_count(2)
    page.locator("#strip button.failed").first.click()
    expect(page.locator("#failure")).to_have_text(re.compile("truncated or damaged"))


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


def test_a_gateway_that_dies_is_said_and_the_images_wait_for_it(visit: Open, site: Any) -> None:
    page = visit()
    choose(page, FLORIDA)
    expect(page.locator("#sure")).to_be_visible()
    os.kill(site.platform.pids["gateway"], signal.SIGKILL)
    choose(page, *sorted(path for path in (ROOT / "samples").glob("*.jpg") if path != FLORIDA)[:4])
    expect(page.locator("#failure").or_(page.locator("#sure"))).to_be_visible()
    expect(page.locator("#strip button.failed").first).to_be_visible()
    page.locator("#strip button.failed").first.click()
    expect(page.locator("#failure")).to_contain_text("Your images are still here")
    expect(page.locator("#strip button.done")).to_have_count(5, timeout=90_000)
    expect(page.locator("#service")).to_be_hidden()


def test_without_a_search_the_answer_is_rough_and_says_so(visit: Open, site: Any) -> None:
    page = visit()
    with Image.open(FLORIDA) as image:
        unseen = encoded(image, "JPEG", quality=91)  # no answer to it is in the cache
    os.kill(site.platform.pids["retrieval"], signal.SIGKILL)
    choose(page, file("unseen.jpg", unseen))
    note = page.locator("#degraded")
    expect(note).to_contain_text("so this is a rough answer from the cells alone, without a radius")
    expect(note.locator("small")).to_contain_text("retrieval")
    expect(page.locator("#answer")).to_contain_text("similar images could not be looked for")
    expect(page.locator("#answer")).not_to_contain_text("No radius was fitted")
    expect(page.locator("#map .radius-label")).to_have_count(0)
    expect(page.locator("#evidence")).to_have_count(0)
    expect(page.locator("#live")).to_contain_text("a rough answer")
    assert serious(page) == []
    end = time.monotonic() + 90
    while note.count():  # retrieval is started again meanwhile
        assert time.monotonic() < end, note.inner_text()
        note.get_by_role("button", name="Ask again").click()
        expect(page.locator("#answer .coordinates")).to_be_visible()
        time.sleep(0.3)
    expect(page.locator("#sure")).to_contain_text(re.compile(r"90 % sure within \d+ km"))


def test_a_server_that_is_gone_is_said(visit: Open) -> None:
    page = visit()
    page.context.set_offline(True)
    choose(page, FLORIDA)
    expect(page.locator("#failure")).to_contain_text("Is geofix still running?")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#sure")).to_be_visible()


def test_it_fits_a_phone(visit: Open) -> None:
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True)
    choose(page, FLORIDA, ITALY)
    expect(page.locator("#sure")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    expect(page.locator("#map .estimate")).to_be_visible()
    page.locator("#evidence").scroll_into_view_if_needed()
    assert serious(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Open, theme: str) -> None:
    page = visit(color_scheme=theme)
    expect(page.locator("#samples")).to_be_visible()
    assert page.locator("html").get_attribute("data-theme") == theme
    assert serious(page) == []
    page.get_by_role("button", name="Florida").click()
    page.locator("#compare").click()
    page.locator("#details summary").click()
    expect(page.locator("#off")).to_be_visible()
    assert serious(page) == []
    choose(page, file("notes.txt", b"not an image", "text/plain"))
    expect(page.locator("#failure")).to_be_visible()
    assert serious(page) == []


def test_the_reference_of_the_api_can_be_read(visit: Open) -> None:
    page = visit("/api")
    expect(page.locator("#operations")).to_contain_text("/v1/locate")
    expect(page.locator("#schemas")).to_contain_text("NeighborOut")
    assert serious(page) == []


def test_a_neighbour_without_a_picture_has_its_source_behind_a_click(visit: Open) -> None:
    page = visit()

    def elsewhere(route: Any) -> None:
        """The platform's answer, as a gallery of pictures at other addresses would give it."""
        answer = route.fetch().json()
        for neighbor in answer["neighbors"]:
            neighbor |= {
                "thumbnail": None,
                "picture": "https://pictures.example/1.jpg",
                "attribution": "A. Photographer",
            }
        answer["neighbors"][1]["picture"] = "javascript:alert(1)"
        route.fulfill(json=answer)

    page.route("**/v1/locate*", elsewhere)
    choose(page, FLORIDA)
    first = page.locator("#evidence [data-index='0']")
    expect(first).to_contain_text("A. Photographer")
    first.hover()
    link = page.locator("#about a")
    expect(link).to_have_attribute("href", "https://pictures.example/1.jpg")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    page.locator("#evidence [data-index='1']").hover()
    expect(page.locator("#about a")).to_have_count(0)


def test_a_map_of_the_command_shows_the_estimate_and_asks_nobody(browser: Browser, site: Any, tmp_path: Path) -> None:
    path = tmp_path / "map.html"
    ran = geofix("locate", "--json", "--map", path, "--server", site.platform.address, FLORIDA)
    (record,) = ran.records
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(path.as_uri())
    dot = page.locator("#places .chosen .dot")
    expect(dot).to_be_visible()
    assert float(haversine_km(record["lat"], record["lon"], 27.9, -81.9)) < 100
    width, height = map(int, re.search(r"WIDTH = (\d+), HEIGHT = (\d+)", path.read_text()).groups())  # type: ignore[union-attr]
    place = [(record["lon"] + 180) / 360 * width, (90 - record["lat"]) / 180 * height]
    assert [float(dot.get_attribute(name) or "nan") for name in ("cx", "cy")] == pytest.approx(place, abs=0.1)
    expect(page.locator("#places .chosen path.area")).to_have_count(2)
    expect(page.locator("#land")).to_be_visible()
    expect(page.locator("nav button")).to_contain_text("florida.jpg")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert broken == []
    context.close()
