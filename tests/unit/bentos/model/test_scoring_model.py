"""A model on disk is verified before it is parsed, and answers as it did when it was made."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bentos.errors import ContractMismatch, ModelCorrupt
from bentos.model.calibration import Calibrator
from bentos.model.scoring_model import CONTRACT_FILE, DIGESTS_FILE, MODEL_FILE, MODEL_FILES, ScoringModel
from bentos.schema.event_schema import EventSchema
from monitoring.core.hashing import canonical_json, sha256_file, sha256_hex
from monitoring.performance.cost_curve import CostCurve
from tests.support.builders import fraud, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model().save(tmp_path)
    return tmp_path


def redigest(folder: Path) -> None:
    """Make the digests fit whatever the files hold now."""
    digests = {name: sha256_file(folder / name) for name in (MODEL_FILE, CONTRACT_FILE)}
    (folder / DIGESTS_FILE).write_bytes(canonical_json(digests))


def change_contract(folder: Path, **fields: object) -> None:
    contract = json.loads((folder / CONTRACT_FILE).read_bytes())
    (folder / CONTRACT_FILE).write_bytes(canonical_json(contract | fields))
    redigest(folder)


@pytest.mark.parametrize(
    "calibrator",
    [Calibrator(), Calibrator("platt", 0.8, 0.1), Calibrator("isotonic", knots_x=(0.1, 0.9), knots_y=(0.01, 0.7))],
    ids=lambda c: c.kind,
)
def test_a_saved_model_comes_back_the_same(tmp_path: Path, calibrator: Calibrator):
    model = tiny_model(calibrator=calibrator)
    model.save(tmp_path)
    again = ScoringModel.load(tmp_path)
    again.check_golden()
    rows = model.golden.features
    assert again.score(rows).raw.tobytes() == model.score(rows).raw.tobytes()
    assert again.score(rows).calibrated.tobytes() == model.score(rows).calibrated.tobytes()
    assert (again.plan, again.calibrator, again.threshold) == (model.plan, model.calibrator, model.threshold)
    assert (again.metadata, again.profile) == (model.metadata, model.profile)
    assert again.contract_digest == model.contract_digest == sha256_file(tmp_path / DIGESTS_FILE)


def test_a_model_folder_holds_three_files_and_no_pickle(folder: Path):
    assert sorted(p.name for p in folder.iterdir()) == sorted(MODEL_FILES)
    for path in folder.iterdir():
        with pytest.raises(Exception, match=r".*"):  # whatever a pickle reader says to these bytes
            pickle.loads(path.read_bytes())
    assert sha256_hex((folder / MODEL_FILE).read_bytes()) == tiny_model().booster_digest


def test_saving_a_loaded_model_writes_the_same_bytes(folder: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    ScoringModel.load(folder).save(copy)
    assert all((copy / name).read_bytes() == (folder / name).read_bytes() for name in MODEL_FILES)


def test_a_cost_curve_is_part_of_the_version_and_comes_back(tmp_path: Path):
    curve = CostCurve((0.9, 0.5), (200.0, 100.0), (0, 3), (0.0, 0.5))
    model = replace(tiny_model(), cost_curve=curve)
    model.save(tmp_path)
    assert ScoringModel.load(tmp_path, model.contract_digest).cost_curve == curve
    assert model.contract_digest != tiny_model().contract_digest
    assert model.booster_digest == tiny_model().booster_digest


def test_a_version_from_before_curves_were_kept_loads_and_keeps_its_bytes(folder: Path):
    assert "cost_curve" not in json.loads((folder / CONTRACT_FILE).read_bytes())
    loaded = ScoringModel.load(folder)
    assert loaded.cost_curve is None
    assert replace(loaded).contract_digest == loaded.contract_digest


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_missing_file_is_refused(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(ModelCorrupt, match=name):
        ScoringModel.load(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, CONTRACT_FILE])
@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "empty"])
def test_a_damaged_file_is_refused_before_it_is_parsed(folder: Path, name: str, damage: str):
    data = bytearray((folder / name).read_bytes())
    changed = {
        "flip": lambda: bytes([*data[:99], data[99] ^ 1, *data[100:]]),
        "truncate": lambda: bytes(data[:-1]),
        "extend": lambda: bytes(data) + b"\0",
        "empty": lambda: b"",
    }[damage]()
    (folder / name).write_bytes(changed)
    with pytest.raises(ModelCorrupt, match=f"{name} differs from its digest"):
        ScoringModel.load(folder)


def test_another_model_in_the_same_place_is_refused_when_the_journal_knows_the_digest(folder: Path):
    known = ScoringModel.load(folder).contract_digest
    assert ScoringModel.load(folder, known).contract_digest == known
    tiny_model(seed=2).save(folder)
    with pytest.raises(ModelCorrupt, match="expected"):
        ScoringModel.load(folder, known)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"model.ubj": "x"}'])
def test_digests_that_say_nothing_are_refused(folder: Path, content: bytes):
    (folder / DIGESTS_FILE).write_bytes(content)
    with pytest.raises(ModelCorrupt, match=DIGESTS_FILE):
        ScoringModel.load(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"format": 99},
        {"plan_fingerprint": "0" * 64},
        {"plan": {}},
        {"calibrator": {"kind": "spline"}},
        {"threshold": {"value": 0.5}},
        {"profile": {"features": "none"}},
        {"metadata": {"unknown": 1}},
        {"golden": {}},
        {"cost_curve": {"threshold": "low"}},
    ],
    ids=lambda f: next(iter(f)),
)
def test_a_contract_that_cannot_be_read_is_refused(folder: Path, fields: dict):
    change_contract(folder, **fields)
    with pytest.raises(ModelCorrupt, match=CONTRACT_FILE):
        ScoringModel.load(folder)


def test_a_file_that_is_no_xgboost_model_is_refused(folder: Path):
    (folder / MODEL_FILE).write_bytes(b"{L\0\0\0\0\0\0\0\1")
    redigest(folder)
    with pytest.raises(ModelCorrupt, match=MODEL_FILE):
        ScoringModel.load(folder)


def test_golden_rows_with_other_scores_are_refused(folder: Path):
    contract = json.loads((folder / CONTRACT_FILE).read_bytes())
    contract["golden"]["raw"][3] += 1e-4
    change_contract(folder, golden=contract["golden"])
    with pytest.raises(ModelCorrupt, match=r"1 of 16 golden rows give other raw scores"):
        ScoringModel.load(folder).check_golden()


def test_golden_rows_spread_over_the_scores_and_keep_missing_values(tmp_path: Path):
    model = tiny_model()
    model.golden.features[0, 3] = np.nan
    model.save(tmp_path)
    again = ScoringModel.load(tmp_path).golden
    assert len(again.raw) == 16
    assert np.isnan(again.features[0, 3])
    assert (np.diff(again.raw) >= 0).all()


def test_one_row_gives_the_bits_of_the_batch():
    model = tiny_model(trees=30)
    rows = np.random.default_rng(5).gamma(2.0, 20.0, (200, len(model.plan.names))).astype(np.float32)
    batch = model.score(rows)
    single = [model.score(rows[i : i + 1]) for i in range(len(rows))]
    assert batch.raw.tobytes() == b"".join(s.raw.tobytes() for s in single)
    assert batch.calibrated.tobytes() == b"".join(s.calibrated.tobytes() for s in single)
    assert (batch.raw.dtype, batch.calibrated.dtype) == (np.float32, np.float64)


def test_no_row_gives_no_score():
    model = tiny_model()
    assert model.score(np.empty((0, len(model.plan.names)), dtype=np.float32)).raw.shape == (0,)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ContractMismatch, match="15 columns"):
        tiny_model().score(np.zeros((1, 14), dtype=np.float32))


def test_a_use_case_with_another_input_schema_is_refused():
    model = tiny_model()
    model.check_schema(EventSchema.of(fraud()).fingerprint)
    columns = tuple(c.model_copy(update={"max": 99.0}) if c.name == "amount" else c for c in fraud().columns)
    other = fraud().model_copy(update={"columns": columns})
    with pytest.raises(ContractMismatch, match="train it again"):
        model.check_schema(EventSchema.of(other).fingerprint)


def test_a_score_at_the_threshold_is_an_alert():
    model = tiny_model(threshold=0.25)
    assert model.decide(np.array([0.24, 0.25, 0.26])).tolist() == [False, True, True]


def test_warming_up_changes_nothing():
    model = tiny_model()
    before = model.contract_digest
    model.warm_up()
    model.check_golden()
    assert model.contract_digest == before


def test_importing_the_model_needs_neither_xgboost_nor_mlflow():
    code = (
        "import bentos.model.scoring_model, bentos.registry.mlflow, sys; "
        "print(sorted({'xgboost', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_process_that_only_predicts_imports_no_scikit_learn_and_scores_the_same(tmp_path: Path) -> None:
    tiny_model().save(tmp_path)
    code = (
        "import sys; from bentos.model.xgboost_booster import import_lean_xgboost; import_lean_xgboost();"
        "from pathlib import Path; from bentos.model.scoring_model import ScoringModel;"
        f"ScoringModel.load(Path({str(tmp_path)!r})).check_golden();"
        "print(sorted({'sklearn', 'scipy.stats'} & set(sys.modules)), 'xgboost' in sys.modules);"
        "import sklearn.base; print(sklearn.base.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "sklearn.base"]
