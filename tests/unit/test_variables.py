"""A variable that nothing reads is refused with the name that it resembles; what the code reads is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geofix.errors import ConfigurationError
from geofix.settings import ServiceSettings, Settings
from geofix.variables import OF_COMMANDS, OF_TESTS, explain_unknown, known_variables

ROOT = Path(__file__).parents[2]
KNOWN = known_variables(Settings)
READ = re.compile(r"""["'](GEOFIX_[A-Z0-9_]*[A-Z0-9])["']""")


def test_the_settings_of_every_service_are_known() -> None:
    assert {
        "GEOFIX_LISTEN",
        "GEOFIX_PROVIDERS",
        "GEOFIX_EMBED_IMAGES",
        "GEOFIX_MILVUS_URI",
        "GEOFIX_REDIS_URL",
    } <= KNOWN


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GEOFIX_CLASSIFIER_ADRR", "GEOFIX_CLASSIFIER_ADDR"),
        ("GEOFIX_CLASSIFIER_ADDRESS", "GEOFIX_CLASSIFIER_ADDR"),
        ("GEOFIX_MILVUS_URL", "GEOFIX_MILVUS_URI"),
        ("GEOFIX_PROVIDER", "GEOFIX_PROVIDERS"),
        ("geofix_drain", "GEOFIX_DRAIN_S"),
    ],
)
def test_a_typo_is_named_with_the_nearest(name: str, nearest: str) -> None:
    assert explain_unknown({name: "1"}, KNOWN) == [f"{name} is not a setting: did you mean {nearest}?"]


def test_what_resembles_nothing_is_sent_to_the_list() -> None:
    assert explain_unknown({"GEOFIX_XYZZY": "1"}, KNOWN) == [
        "GEOFIX_XYZZY is not a setting: docs/settings.md lists them"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GEOFIX_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("GEOFIX_GATEWAY_SERVICE_PORT_GRPC", "50051"),
        ("GEOFIX_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
        ("GEOFIX_GATEWAY_PORT_50051_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_a_service_link_of_kubernetes_is_explained(name: str, value: str) -> None:
    (line,) = explain_unknown({name: value}, KNOWN)
    assert line.startswith(f"{name} is not a setting")
    assert "enableServiceLinks: false" in line


@pytest.mark.parametrize(
    "name", ["GEOFIX_MAX_BATCH", "geofix_max_batch", "GEOFIX_DATA_DIR", "GEOFIX_TEST_MARK", "HOME"]
)
def test_what_is_known_or_not_ours_is_let_through(name: str) -> None:
    assert explain_unknown({name: "1"}, KNOWN) == []


def test_missing_wrong_and_unknown_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GEOFIX_LISTEN": "here", "GEOFIX_BUNDLES": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GEOFIX_BUNDLE", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        ServiceSettings.from_environment()
    assert [line.split(" (")[0] for line in caught.value.message.splitlines()] == [
        "GEOFIX_LISTEN is wrong",
        "GEOFIX_BUNDLE is not set",
        "GEOFIX_BUNDLES is not a setting: did you mean GEOFIX_BUNDLE?",
    ]


def test_every_variable_that_the_code_names_is_known() -> None:
    """So that no service refuses a variable that another part reads by its name."""
    files = [path for source in ("shared", "services", "training") for path in (ROOT / source).rglob("*.py")]
    named = {name: path for path in files for name in READ.findall(path.read_text())}
    unknown = {name: str(path) for name, path in named.items() if name not in KNOWN and not name.startswith(OF_TESTS)}
    assert not unknown, "a field of a settings class, or geofix.variables.OF_COMMANDS, should name these"
    assert named.keys() >= OF_COMMANDS, "nothing reads these any more"
