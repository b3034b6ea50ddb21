"""Alert rules and dashboards ask for metrics and labels that exist, and alerts lead to runbooks that exist.

    python tools/check_operations.py

A rule over a metric that nobody emits never fires, and nobody notices.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from geofix.telemetry.metrics import INSTRUMENTS

ROOT = Path(__file__).parents[1]
OF_TARGETS = {"job", "instance", "service"}
"""Labels that scraping adds (ops/prometheus.yml)."""
_LISTS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\s*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])")
_WORDS = {"and", "or", "unless", "offset", "bool"}

Labels = dict[str, set[str]]
"""Names of series, and the labels that each has."""


def emitted() -> Labels:
    """What services of geofix emit, and what Prometheus adds."""
    found: Labels = {"up": set(OF_TARGETS)}
    for each in INSTRUMENTS:
        endings = ("_bucket", "_sum", "_count") if each.kind == "histogram" else ("",)
        for ending in endings:
            found[each.name + ending] = {*each.labels, *OF_TARGETS, *({"le"} if ending == "_bucket" else ())}
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    for family in registry.collect():
        for sample in family.samples:
            found[sample.name] = {*sample.labels, *OF_TARGETS}
    return found


def wrong_in(query: str, known: Labels) -> Iterator[str]:
    """What a PromQL query asks for that is not there."""
    plain = re.sub(r'"(?:\\.|[^"\\])*"', '""', query)
    for name, selector in _SELECTOR.findall(plain):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            if name in known and label not in known[name]:
                yield f"{name} has no label {label}"
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", _LISTS.sub("", plain))
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    names = {name for name in _NAME.findall(bare) if name not in _WORDS}
    for name in sorted(names - known.keys()):
        yield f"nobody emits {name}"
    everywhere = set().union(*(known[name] for name in names & known.keys()), {"le"})
    for _, labels in _LISTS.findall(plain):
        for label in filter(None, map(str.strip, labels.split(","))):
            if label not in everywhere:
                yield f"no series of the query has the label {label}"


def wrong_in_rules(path: Path, known: Labels) -> Iterator[str]:
    """What is wrong in a file of rules; recorded series join `known`."""
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]
    known |= {rule["record"]: set(OF_TARGETS) for rule in rules if "record" in rule}
    for rule in rules:
        name = rule.get("alert") or rule["record"]
        yield from (f"{path.name}: {name}: {wrong}" for wrong in wrong_in(rule["expr"], known))
        if "alert" not in rule:
            continue
        if rule.get("labels", {}).get("severity") not in ("page", "ticket"):
            yield f"{path.name}: {name}: severity is neither page nor ticket"
        page = re.fullmatch(
            r"\{\{ \$externalLabels\.docs \}\}/(runbooks/[\w-]+)\.html", rule["annotations"]["runbook_url"]
        )
        if page is None or not (ROOT / "docs" / f"{page[1]}.md").is_file():
            yield f"{path.name}: {name}: there is no runbook {rule['annotations']['runbook_url']}"


def queries_of(dashboard: Path) -> list[tuple[str, str]]:
    """Titles of a dashboard's panels with their queries."""
    panels = json.loads(dashboard.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def main() -> int:
    """Print what is wrong; the exit code."""
    known = emitted()
    found = list(wrong_in_rules(ROOT / "ops/alerts.yml", known))
    for dashboard in sorted((ROOT / "ops/dashboards").glob("*.json")):
        for title, query in queries_of(dashboard):
            found += [f"{dashboard.name}: {title}: {wrong}" for wrong in wrong_in(query, known)]
    print("\n".join(found) or "alert rules and dashboards ask for what is emitted")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
