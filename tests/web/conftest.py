"""One platform with the demo bundle and its page, for all tests of the web service, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from browsers import FLAGS, chromium
from geofix.platform import Platform

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """A page that is served: its URL, and the platform behind it."""

    url: str
    platform: Platform


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where `make up` finds the samples
        data = tmp_path_factory.mktemp("site") / "geofix"
        with Platform(ROOT / "bundles" / "orbit", data, web_port=0) as platform:
            yield Site(platform.page, platform)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()
