"""The process apart, with models that break it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bentos.errors import ContractMismatch, ModelCorrupt
from bentos.model.isolated_check import Verifier, inspect_in_fork
from bentos.model.scoring_model import CONTRACT_FILE, DIGESTS_FILE, MODEL_FILE
from bentos.schema.event_schema import EventSchema
from monitoring.core.hashing import canonical_json, sha256_hex
from tests.support.builders import fraud, tiny_model

SCHEMA = EventSchema.of(fraud()).fingerprint


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    found = Verifier()
    found.warm_up()
    yield found
    found.close()


def forged(folder: Path, **changed: bytes) -> Path:
    """A model folder with other file contents under digests that fit them."""
    files = dict(tiny_model().files)
    files.update({{"model": MODEL_FILE, "contract": CONTRACT_FILE}[name]: data for name, data in changed.items()})
    files[DIGESTS_FILE] = canonical_json({name: sha256_hex(files[name]) for name in (MODEL_FILE, CONTRACT_FILE)})
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_good_model_passes(verifier: Verifier, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "good")
    verifier.check(tmp_path / "good", SCHEMA)


def test_another_input_schema_is_told_apart(verifier: Verifier, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "good")
    with pytest.raises(ContractMismatch):
        verifier.check(tmp_path / "good", "0" * 64)


def test_a_booster_with_other_scores_than_its_golden_rows_is_refused(verifier: Verifier, tmp_path: Path) -> None:
    folder = forged(tmp_path / "other", model=tiny_model(seed=2).files[MODEL_FILE])
    with pytest.raises(ModelCorrupt, match="golden"):
        verifier.check(folder, SCHEMA)


def test_damaged_boosters_never_reach_us_and_the_next_model_is_looked_at(verifier: Verifier, tmp_path: Path) -> None:
    good = tiny_model().files[MODEL_FILE]
    for at in range(0, len(good), len(good) // 12):
        data = bytearray(good)
        data[at] ^= 0x10
        folder = forged(tmp_path / str(at), model=bytes(data))
        try:
            verifier.check(folder, SCHEMA)
        except ModelCorrupt:
            continue
    tiny_model().save(tmp_path / "good")
    verifier.check(tmp_path / "good", SCHEMA)


def test_a_child_that_dies_is_replaced(verifier: Verifier, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "good")
    verifier.check(tmp_path / "good", SCHEMA)
    assert verifier._child is not None
    os.kill(verifier._child.pid, signal.SIGKILL)
    verifier._child.wait()
    verifier.check(tmp_path / "good", SCHEMA)


def test_a_model_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    slow = Verifier(timeout_s=0.01)
    tiny_model().save(tmp_path / "good")
    try:
        with pytest.raises(ModelCorrupt, match="no answer"):
            slow.check(tmp_path / "good", SCHEMA)
    finally:
        slow.close()


def test_a_crash_of_the_fork_is_told_by_its_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(folder: Path, schema: str) -> dict[str, str]:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    monkeypatch.setattr(sys.modules["bentos.model.isolated_check"], "inspect", crash)
    answer = inspect_in_fork(tmp_path, SCHEMA)
    assert answer == {"refused": "corrupt", "reason": "the model crashed the process that read it (SIGSEGV)"}
