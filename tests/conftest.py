"""Fixtures for every kind of test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import Shared


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """One running Bento for every module that asks for it; see :class:`tests.servers.Shared`."""
    from tests.servers import Shared

    shared = Shared(tmp_path_factory.mktemp("service"))
    yield shared
    shared.discard()
