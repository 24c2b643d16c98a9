"""Fixtures for every kind of test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.processes.servers import Shared

# A busy machine is slow, not wrong: no test asserts times, so neither does hypothesis.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

# Every process that a test starts would compile our modules anew: 2 s of each start of the service.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """Commands move their process into a home; the next test must not find the addresses of this one's."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """One running Bento for every module that asks for it; see :class:`tests.support.processes.servers.Shared`."""
    from tests.support.processes.servers import Shared

    shared = Shared(tmp_path_factory.mktemp("service"))
    yield shared
    shared.discard()
