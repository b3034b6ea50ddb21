"""What all tests share: hypothesis without deadlines (machines are busy), and the same examples every time in CI."""

from __future__ import annotations

import os

import hypothesis

hypothesis.settings.register_profile("geofix", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "geofix")
