"""A model as it serves: booster, feature plan, calibrator, threshold, reference profile.

On disk a model is a folder of three files, and nothing in it is a pickle:

    model.ubj        the booster as its library stores it (XGBoost: UBJ)
    contract.json    feature plan, fingerprints, calibrator, threshold, profile, golden rows, lineage
    digests.json     SHA-256 of the other two; its own SHA-256 is the model's ``contract_digest``

``load`` reads each file once, compares its digest and parses the very bytes that it compared:
a flipped bit in a UBJ file can crash the process or load silently wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.errors import ContractMismatch, FeatureError, ModelCorrupt
from bentos.model.booster import Booster, Matrix
from bentos.model.booster_adapters import DEFAULT, load_booster
from bentos.model.calibration import Calibrator, Floats, Threshold
from bentos.model.contract import GoldenRows, ModelMetadata, golden_rows
from monitoring.core.hashing import canonical_json, sha256_hex

if TYPE_CHECKING:
    from bentos.features.plan import FeaturePlan
    from monitoring.drift.reference_profile import ReferenceProfile
    from monitoring.performance.cost_curve import CostCurve

__all__ = [
    "GoldenRows",
    "Matrix",
    "ModelMetadata",
    "ModelScores",
    "ScoringModel",
    "golden_rows",
    "verified_files",
]

MODEL_FILE: Final = "model.ubj"
CONTRACT_FILE: Final = "contract.json"
DIGESTS_FILE: Final = "digests.json"
MODEL_FILES: Final = (MODEL_FILE, CONTRACT_FILE, DIGESTS_FILE)
_FORMAT: Final = 1
_GOLDEN_TOLERANCE: Final = 1e-6  # exp() may differ in the last bit between machines


@dataclass(frozen=True)
class ModelScores:
    """What a model says about each row: ``raw`` float32 from the booster, ``calibrated`` float64.

    ``cuts`` is the threshold of each row where it goes by the amount, and none where one holds for all.
    """

    raw: Matrix
    calibrated: Floats
    cuts: Floats | None = None

    def only(self, rows: NDArray[np.intp]) -> ModelScores:
        """The scores of some rows."""
        return ModelScores(self.raw[rows], self.calibrated[rows], None if self.cuts is None else self.cuts[rows])


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """A booster with everything that is needed to answer with it.

    Attributes:
        booster: what was fitted, behind the port of its library; it predicts with one thread.
        plan: which features, in which order.
        calibrator: raw score to probability.
        threshold: probability to alert, with its interval.
        profile: the frozen reference of features and scores.
        schema_fingerprint: of the input schema (:class:`bentos.schema.event_schema.EventSchema`).
        golden: rows with known answers.
        metadata: lineage.
        cost_curve: cost, alerts and recall on the fold that chose the threshold; none in versions made before it was
            kept.
    """

    booster: Booster
    plan: FeaturePlan
    calibrator: Calibrator
    threshold: Threshold
    profile: ReferenceProfile
    schema_fingerprint: str
    golden: GoldenRows
    metadata: ModelMetadata
    cost_curve: CostCurve | None = None

    def score(self, features: Matrix) -> ModelScores:
        """Score rows of float32 features, one column a feature, in plan order.

        Raises:
            ContractMismatch: when the number of columns is not the plan's.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != len(self.plan.names):
            raise ContractMismatch(f"features of shape {rows.shape}; the plan has {len(self.plan.names)} columns")
        if not len(rows):
            return ModelScores(np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float64))
        raw = self.booster.predict(rows)
        return ModelScores(raw, self.calibrator.apply(raw), self.cuts(rows))

    def cuts(self, features: Matrix) -> Floats | None:
        """The threshold of each row where it goes by the amount; none where one holds for all."""
        if self.threshold.amount is None:
            return None
        return self.threshold.cuts(features[:, self.plan.names.index(self.threshold.amount)])

    def decide(self, calibrated: Floats, cuts: Floats | None = None) -> NDArray[np.bool_]:
        """Whether each calibrated score is an alert; ``cuts`` are those of the same rows, see :class:`ModelScores`."""
        return self.threshold.flags(calibrated, cuts)

    def warm_up(self, rounds: int = 3) -> None:
        """Score golden rows one by one and together, so that the first request pays for nothing."""
        for _ in range(rounds):
            self.score(self.golden.features[:1])
            self.score(self.golden.features)

    def check_golden(self) -> None:
        """Score the golden rows again.

        Raises:
            ModelCorrupt: when a score differs from the recorded one by more than 1e-6.
        """
        scores = self.score(self.golden.features)
        _compare_golden("raw", scores.raw, self.golden.raw)
        _compare_golden("calibrated", scores.calibrated, self.golden.calibrated)

    def check_schema(self, fingerprint: str) -> None:
        """Refuse a use case with another input schema.

        Raises:
            ContractMismatch: with both fingerprints.
        """
        if fingerprint != self.schema_fingerprint:
            raise ContractMismatch(
                f"the model was trained for input schema {self.schema_fingerprint[:12]}, "
                f"the use case has {fingerprint[:12]}; train it again on the new schema"
            )

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The stored form: file name to content. The same model gives the same bytes."""
        contents = {
            MODEL_FILE: self.booster.save(),
            CONTRACT_FILE: canonical_json(self._contract()),
        }
        digests = {name: sha256_hex(data) for name, data in contents.items()}
        return contents | {DIGESTS_FILE: canonical_json(digests)}

    @property
    def contract_digest(self) -> str:
        """SHA-256 of ``digests.json``: one word for the whole model, held by the journal."""
        return sha256_hex(self.files[DIGESTS_FILE])

    @property
    def booster_digest(self) -> str:
        """SHA-256 of ``model.ubj``."""
        return sha256_hex(self.files[MODEL_FILE])

    def save(self, folder: Path) -> None:
        """Write the three files; the folder is made when it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    @staticmethod
    def load(folder: Path, contract_digest: str | None = None) -> ScoringModel:
        """Read a model that :meth:`save` wrote.

        Args:
            folder: where the three files lie; other files are not looked at.
            contract_digest: what ``digests.json`` must hash to, where that is known.

        Raises:
            ModelCorrupt: a file is missing, differs from its digest, or cannot be read as ours.
        """
        files = verified_files(folder, contract_digest)
        try:
            return _parse(files)
        except (KeyError, TypeError, ValueError, FeatureError) as exc:
            raise ModelCorrupt(f"{folder}: {CONTRACT_FILE} cannot be read: {exc!r}") from exc

    def _contract(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "schema_fingerprint": self.schema_fingerprint,
            "plan": self.plan.to_json(),
            "plan_fingerprint": self.plan.fingerprint,
            "calibrator": self.calibrator.to_json(),
            "threshold": self.threshold.to_json(),
            "profile": self.profile.to_json(),
            "golden": self.golden.to_json(),
            "metadata": self.metadata.to_json(),
            # Left out where they say nothing new: an older version keeps its bytes and its digest.
            **({} if self.booster.kind == DEFAULT.kind else {"booster": self.booster.kind}),
            **({} if self.cost_curve is None else {"cost_curve": self.cost_curve.to_json()}),
        }


def verified_files(folder: Path, contract_digest: str | None = None) -> dict[str, bytes]:
    """The content of a model's files, each compared with its digest before anything is parsed.

    Raises:
        ModelCorrupt: naming the file that is missing or differs.
    """
    contents = {name: _read(folder / name) for name in MODEL_FILES}
    actual_digest = sha256_hex(contents[DIGESTS_FILE])
    if contract_digest is not None and actual_digest != contract_digest:
        raise ModelCorrupt(f"{folder}: {DIGESTS_FILE} has digest {actual_digest[:12]}, expected {contract_digest[:12]}")
    try:
        digests = json.loads(contents[DIGESTS_FILE])
        expected = {name: digests[name] for name in (MODEL_FILE, CONTRACT_FILE)}
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelCorrupt(f"{folder}: {DIGESTS_FILE} cannot be read: {exc!r}") from exc
    for name, digest in expected.items():
        if sha256_hex(contents[name]) != digest:
            raise ModelCorrupt(f"{folder}: {name} differs from its digest; fetch the version again")
    return contents


def _compare_golden(name: str, scores: NDArray[Any], expected: NDArray[Any]) -> None:
    mismatches = int((np.abs(scores - expected) > _GOLDEN_TOLERANCE).sum() + np.isnan(scores).sum())
    if mismatches:
        raise ModelCorrupt(
            f"{mismatches} of {len(scores)} golden rows give other {name} scores than when they were stored"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ModelCorrupt(f"{path} cannot be read: {type(exc).__name__}; fetch the version again") from exc


def _parse(files: Mapping[str, bytes]) -> ScoringModel:
    from bentos.features.plan import FeaturePlan
    from monitoring.drift.reference_profile import ReferenceProfile
    from monitoring.performance.cost_curve import CostCurve

    contract = json.loads(files[CONTRACT_FILE])
    if contract["format"] != _FORMAT:
        raise ValueError(f"contract format {contract['format']!r}; this version reads {_FORMAT}")
    plan = FeaturePlan.from_json(contract["plan"])
    if plan.fingerprint != contract["plan_fingerprint"]:
        raise ValueError("the feature plan has another meaning here than where the model was trained")
    model = ScoringModel(
        booster=load_booster(contract.get("booster", DEFAULT.kind), files[MODEL_FILE]),
        plan=plan,
        calibrator=Calibrator.from_json(contract["calibrator"]),
        threshold=Threshold.from_json(contract["threshold"]),
        profile=ReferenceProfile.from_json(contract["profile"]),
        schema_fingerprint=contract["schema_fingerprint"],
        golden=GoldenRows.from_json(contract["golden"]),
        metadata=ModelMetadata.from_json(contract["metadata"]),
        cost_curve=None if "cost_curve" not in contract else CostCurve.from_json(contract["cost_curve"]),
    )
    # What was read is what the model is: a later save writes these bytes, not a re-encoding.
    model.__dict__["files"] = dict(files)
    return model
