from __future__ import annotations

import pytest

from flows.errors import SourceOptionsError
from flows.sources.locations import read_address


def test_variables_are_filled_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_USER", "reader")
    monkeypatch.setenv("DB_PASSWORD", "s3cr3t!")
    address = read_address("postgresql://${DB_USER}:${DB_PASSWORD}@db/cards")
    assert address.value == "postgresql://reader:s3cr3t!@db/cards"
    assert address.shown == "postgresql://${DB_USER}:***@db/cards"
    assert "s3cr3t!" not in repr(address)
    assert address.scrub("login of reader with s3cr3t! failed") == "login of *** with *** failed"


def test_a_literal_password_is_hidden() -> None:
    address = read_address("postgresql://reader:hunter2@db/cards")
    assert address.shown == "postgresql://reader:***@db/cards"
    assert address.scrub("no pg_hba.conf entry for hunter2") == "no pg_hba.conf entry for ***"


def test_a_password_among_the_options_is_hidden() -> None:
    address = read_address("mysql://db/cards?user=reader&password=hun%20ter2&ssl=1")
    assert address.shown == "mysql://db/cards?user=reader&password=***&ssl=1"
    assert address.scrub("hun ter2, hun%20ter2") == "***, ***"


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(SourceOptionsError, match="source_options: the environment variable NOT_THERE is not set"):
        read_address("sqlite:///${NOT_THERE}")


@pytest.mark.parametrize(
    "path", ["data/cards.csv", "/data/2026", "memory://cards", "C:\\data\\cards.csv", "data/*.csv"]
)
def test_a_plain_path_is_itself(path: str) -> None:
    address = read_address(path)
    assert address.value == address.shown == path
    assert address.secrets == ()
