"""`make audit`: pip-audit over a list of pinned requirements; it says plainly where its service cannot be reached.

    python tools/audit.py PIP_AUDIT REQUIREMENTS

Exit codes: 0 no known vulnerability, 1 there are some, 3 nothing was audited.
"""

from __future__ import annotations

import subprocess
import sys

SECONDS = 300


def main(pip_audit: str, requirements: str) -> int:
    """Run it; the exit code."""
    command = [pip_audit, "--requirement", requirements, "--disable-pip", "--progress-spinner", "off"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _not_audited(f"no answer within {SECONDS} s")
    if ended.returncode == 0:
        print(ended.stderr.strip() or f"{requirements}: no known vulnerability")
        return 0
    if "Vulnerability ID" in ended.stdout or "Found " in ended.stderr:
        print(ended.stdout + ended.stderr)
        return 1
    last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return _not_audited(last)


def _not_audited(why: str) -> int:
    print(f"NOT AUDITED: pip-audit could not ask its service (pypi.org): {why}", file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
