"""Tests of the training code: marked, because they alone import torch."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The networks of these tests are small: threads would only wait for one another on a busy machine."""
    import torch

    torch.set_num_threads(1)


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.training)
