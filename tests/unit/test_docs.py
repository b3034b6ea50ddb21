"""Documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geofix.settings import ModelSettings, ServiceSettings, Settings
from geofix.variables import OF_COMMANDS, known_variables
from geofix_classifier.settings import ClassifierSettings
from geofix_embedder.settings import EmbedderSettings
from geofix_gateway.settings import GatewaySettings
from geofix_retrieval.settings import RetrievalSettings
from geofix_web.settings import WebSettings

ROOT = Path(__file__).parents[2]
ALL = (
    ServiceSettings,
    ModelSettings,
    ClassifierSettings,
    EmbedderSettings,
    GatewaySettings,
    RetrievalSettings,
    WebSettings,
)


@pytest.mark.parametrize("settings", ALL)
def test_every_setting_is_documented_with_its_default(settings: type[Settings]) -> None:
    rows = dict(re.findall(r"^\| `GEOFIX_(\w+)` \| (.*?) \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    for name, field in settings.model_fields.items():
        documented = rows[name.upper()]
        if field.is_required():
            assert documented == "required", name
            continue
        default = field.default
        if isinstance(default, (bool, str)):
            assert documented in (str(default).lower() or "empty", default), name
        elif isinstance(default, (int, float)):
            assert float(documented) == default, name
        else:
            assert documented == "empty", name


def test_no_setting_is_documented_that_is_not_there() -> None:
    documented = re.findall(r"^\| `GEOFIX_(\w+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    known = {name.upper() for settings in ALL for name in settings.model_fields}
    assert set(documented) == known
    assert len(documented) == len(known)


def test_the_variables_of_commands_are_on_the_page_and_none_that_nothing_reads() -> None:
    named = set(re.findall(r"`(GEOFIX_[A-Z0-9_]*[A-Z0-9])[`=]", (ROOT / "docs/settings.md").read_text()))
    assert named >= OF_COMMANDS
    assert named <= known_variables(Settings)


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md", "docs/training.md"):
        for name in re.findall(r"(?m)(?:^    |`)make ([a-z-]+)", (ROOT / page).read_text()):
            assert name in targets, f"{page}: make {name}"
