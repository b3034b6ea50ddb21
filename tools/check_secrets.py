"""No file of the repository holds a secret: private keys, tokens of known services, passwords in URLs (detect-secrets).

    python tools/check_secrets.py [FILE...]      # default: what git knows; exit 1 with the places

A line that only looks like one ends in `pragma: allowlist secret`. Detectors by entropy are left out: a repository of hashes and
test vectors is full of what they report, and what is reported every time is not read.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).parents[1]
DETECTORS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SlackDetector",
    "StripeDetector",
)
FILTERS = ("detect_secrets.filters.allowlist.is_line_allowlisted",)
NOT_READ = {".binpb", ".csv", ".jpg", ".npz", ".onnx", ".parquet", ".png", ".webp"}
GENERATED = ("requirements/", "tests/data/", "services/geofix_web/static/map/")
"""Lists of hashes and tables of numbers, which tools write."""


def secrets_in(files: list[Path]) -> list[str]:
    """Places of what looks like a secret, `file:line: kind`, by name and line."""
    settings = {"plugins_used": [{"name": name} for name in DETECTORS], "filters_used": [{"path": p} for p in FILTERS]}
    found = SecretsCollection()
    with transient_settings(settings):
        for file in files:
            found.scan_file(str(file))
    return [f"{name}:{secret.line_number}: {secret.type}" for name, secret in sorted(found, key=str)]


def known_files() -> list[Path]:
    """The files that git knows and people write."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [ROOT / name for name in listed if Path(name).suffix not in NOT_READ and not name.startswith(GENERATED)]
    return [path for path in paths if path.is_file()]


def main() -> int:
    """Print what is found; the exit code."""
    files = [Path(name) for name in sys.argv[1:]] or known_files()
    found = secrets_in(files)
    print("\n".join(found) or f"no secret in {len(files)} files")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
