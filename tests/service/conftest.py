"""The services that a gateway needs, one set a test module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from backends import Backend, running_backend


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    async with running_backend(tmp_path_factory.mktemp("backend")) as started:
        yield started


@pytest.fixture
def empty_cache(backend: Backend) -> None:
    backend.valkey.empty()
