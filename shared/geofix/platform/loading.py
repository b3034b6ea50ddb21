"""Loading a gallery in a process of its own, with progress: Milvus Lite gives its directory to one process at a time.

The child prints lines of JSON: {"done": n, "total": n} after each step, at the end {"live": "<gallery version>"} or
{"error": "..."}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
from typing import IO

from geofix.bundle import Bundle
from geofix.errors import GeofixError


@dataclass
class Progress:
    """What the loading child said so far."""

    done: int = 0
    total: int = 0
    error: str = ""

    def follow(self, output: IO[str]) -> None:
        """Read the child's lines in the background until it ends."""
        self.error = ""
        threading.Thread(target=self._read, args=(output,), name="gallery-progress", daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                try:
                    said = json.loads(line)
                except ValueError:  # a library that prints
                    continue
                self.done, self.total = said.get("done", self.done), said.get("total", self.total)
                self.error = said.get("error", self.error)


def main() -> int:
    """Load the gallery of GEOFIX_BUNDLE into GEOFIX_MILVUS_URI; the exit code is 0 if it is live."""
    from geofix.gallery.admin import DirectAdmin
    from geofix.gallery.loader import make_live
    from geofix.gallery.settings import MilvusSettings

    def say(**facts: object) -> None:
        print(json.dumps(facts), flush=True)

    try:
        bundle = Bundle.load(os.environ["GEOFIX_BUNDLE"], verify=False)  # the supervisor has just checked the hashes
        # Not made if it is absent: the supervisor has made the embedded one, and any other is a typo.
        with MilvusSettings.from_environment().open_milvus() as store:
            info = make_live(DirectAdmin(store, bundle), bundle, lambda done, total: say(done=done, total=total))
    except GeofixError as error:
        say(error=error.message)
        return 2
    say(live=info.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
