"""Alert rules and dashboards: each rule fires where it should, and asks for what is emitted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from check_operations import emitted, main, wrong_in, wrong_in_rules

from debian import program

OPS = Path(__file__).parents[2] / "ops"


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool", package="prometheus")


@pytest.mark.parametrize("file", sorted(OPS.glob("*.test.yml")), ids=lambda path: path.name)
def test_alerts_fire_where_they_should_and_not_elsewhere(promtool: str, file: Path) -> None:
    ended = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    rules = [rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    fired = {
        case["alertname"]
        for file in OPS.glob("*.test.yml")
        for test in yaml.safe_load(file.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules if "alert" in rule}


def test_everything_that_is_asked_for_is_emitted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(geofix_rpc_total[5m]) > 0", []),
        ('sum by (method, le) (rate(geofix_rpc_duration_seconds_bucket{le="1"}[5m]))', []),
        ("abs(process_open_fds) / on (instance) up offset 1d", []),
        ("rate(geofix_requests_total[5m]) > 0", ["nobody emits geofix_requests_total"]),
        ("geofix_rpc_duration_seconds > 1", ["nobody emits geofix_rpc_duration_seconds"]),
        ('geofix_rpc_total{status="500"}', ["geofix_rpc_total has no label status"]),
        ("sum by (queue) (geofix_ready)", ["no series of the query has the label queue"]),
    ],
)
def test_a_query_for_what_nobody_emits_is_found(query: str, wrong: list[str]) -> None:
    assert list(wrong_in(query, emitted())) == wrong


def test_an_alert_that_nobody_feeds_or_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    rule = {
        "alert": "Silent",
        "expr": "increase(geofix_never_counted_total[5m]) > 0",
        "labels": {"severity": "urgent"},
        "annotations": {"runbook_url": "{{ $externalLabels.docs }}/runbooks/nowhere.html"},
    }
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [rule]}]}))
    found = list(wrong_in_rules(path, emitted()))
    assert len(found) == 3
    assert "Silent: nobody emits geofix_never_counted_total" in found[0]
    assert "neither page nor ticket" in found[1]
    assert "no runbook" in found[2]
