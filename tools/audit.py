"""`make audit`: pip-audit over the lists of what images install; it says plainly what could not be audited.

    python tools/audit.py PIP_AUDIT REQUIREMENTS...

Exit codes: 0 no known vulnerability, 1 there are some, 3 something, or everything, was not audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECONDS = 120


def outcome(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit code, and lines for people, of what pip-audit reports as JSON."""
    packages = report["dependencies"]
    skipped = [each for each in packages if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for each in packages
        for found in each.get("vulns", ())
    ]
    if lines:
        return 1, lines
    audited = len(packages) - len(skipped)
    if skipped:
        why = skipped[0]["skip_reason"]
        return 3, [f"NOT AUDITED: {len(skipped)} of {len(packages)} packages, such as {skipped[0]['name']}: {why}"]
    return 0, [f"{audited} packages, no known vulnerability"]


def main(pip_audit: str, *requirements: str) -> int:
    """Run it; the exit code."""
    lists = [word for name in requirements for word in ("--requirement", name)]
    command = [pip_audit, *lists, "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        code, lines = outcome(json.loads(ended.stdout))
    except subprocess.TimeoutExpired:
        code, lines = 3, [f"NOT AUDITED: no answer within {SECONDS} s"]
    except json.JSONDecodeError:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        code, lines = 3, [f"NOT AUDITED: {last}"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
