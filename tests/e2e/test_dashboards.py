"""Every panel of every dashboard shows something: a Prometheus with the shipped rules scrapes the running platform."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_operations import queries_of

from bundle_factory import grey_image, image_of
from debian import program
from geofix.client import Client
from geofix.errors import GeofixError
from geofix.platform import Platform
from geofix.platform.ports import free_ports
from secure_platform import SecurePlatform

pytestmark = pytest.mark.e2e

OPS = Path(__file__).parents[2] / "ops"


class Prometheus:
    """A Prometheus that asks a platform every second, with the rules and labels of ops/prometheus.yml."""

    def __init__(self, platform: Platform, directory: Path) -> None:
        config = yaml.safe_load((OPS / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(OPS / name) for name in config["rule_files"]]
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [
            {"targets": [urllib.parse.urlsplit(url).netloc], "labels": {"service": name}}
            for name, url in platform.metrics.items()
        ]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self._command = [
            program("prometheus", package="prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={urllib.parse.urlsplit(self._url).netloc}",
        ]
        self._log = directory / "prometheus.log"

    def __enter__(self) -> Prometheus:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API."""
        assert self._process.poll() is None, self._log.read_text()
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def has_data(self, expression: str) -> bool:
        """Whether a panel's query returns at least one number."""
        query = expression.replace("$__rate_interval", "30s")
        return any(sample["value"][1] != "NaN" for sample in self.ask("query", query=query)["result"])


@pytest.fixture(scope="module")
def prometheus(secure_platform: SecurePlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(secure_platform.platform, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


def traffic(client: Client, place: int) -> None:
    """Answers computed and cached, of every kind, and one that is refused."""
    for lon in range(4):
        client.locate(image_of(place % 60, lon, "PNG"))
        client.locate(grey_image())
    with pytest.raises(GeofixError):
        client.locate(b"no image")


def test_every_panel_returns_data_and_no_rule_is_broken(
    secure_platform: SecurePlatform, prometheus: Prometheus
) -> None:
    wanted = [(path.name, *each) for path in OPS.glob("dashboards/*.json") for each in queries_of(path)]
    assert len(wanted) > 25
    end = time.monotonic() + 60
    with secure_platform.client() as client:
        for place in count():
            assert time.monotonic() < end, f"no data: {wanted}"
            traffic(client, place)  # a rate needs an event between two looks
            time.sleep(0.5)
            try:
                wanted = [each for each in wanted if not prometheus.has_data(each[2])]
            except OSError:
                continue  # it has not begun to listen
            if not wanted:
                break
    groups = prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    pages = [rule["name"] for rule in rules if rule["type"] == "alerting" and rule["labels"]["severity"] == "page"]
    firing = {
        alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert len(pages) >= 5
    assert not firing & (set(pages) - {"GeofixCertificateEndsNow"}), firing
