"""Versions that harm, each in the way that one guard of the watch is there for, beside a sound one.

Every version passes what a version must pass to become champion: its digests, its golden rows, the input schema. Their
thresholds flag nobody unless alerts are the harm, so one guard at a time has something to see.

Answers with 500 of such a version are failed requests and also the harm that is drilled, so a drill counts both and
fails on those that are left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.model.calibration import Threshold
from bentos.model.contract import golden_rows
from bentos.model.scoring_model import ScoringModel
from bentos.model.xgboost_booster import XGBoostBooster
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.drills.load.models import fit_model, training_rows
from flows.drills.prediction_log import SMALL_WORLD

Pair = tuple[ScoringModel, ScoringModel]
"""The active version and the one that will harm."""

USECASE: Final = "fraud"
BROKEN_ABOVE: Final = 100.0
"""Amount from which on the broken version has no score; a tenth of the drill's traffic lies above."""
SLOW_TREES: Final = 60_000
UNIT: Final = 100
"""By what amounts are multiplied when they come in cents."""
_EVERYBODY, _NOBODY = (Threshold(cut, cut, cut) for cut in (1e-6, 1.0 - 1e-6))
_SIZE: Final = {"trees": 12, "depth": 3}
_AMOUNTS: Final = ("amount", "mean_amount")
_PLACES: Final = ("risk", "during")


@dataclass(frozen=True)
class Harm:
    """One way to harm.

    Attributes:
        check: name of the guard's figure that must fail.
        told: what the version does, in words.
        make: the two versions.
        rate, connections: of the traffic; a slow version answers fewer events a second.
        shifted: whether amounts come in cents from the promotion on.
    """

    check: str
    told: str
    make: Callable[[], Pair]
    rate: float = 200.0
    connections: int = 16
    shifted: bool = False


def flags_everybody() -> Pair:
    """A version whose threshold every event passes."""
    sound, other = _two_models()
    return sound, replace(other, threshold=_EVERYBODY)


def fails_on_some() -> Pair:
    """A version with a leaf that is not a number: it has no score for large amounts, and each of these is an error.

    None of its golden rows ends in that leaf, so nothing is found before it becomes champion.
    """
    usecase, features, y = _rows()
    sound, other = (_fit(usecase, features, y, seed) for seed in (1, 2))
    column = other.plan.names.index("amount")
    booster = _read(_with_trees(other, lambda trees: [*trees, _broken_stump(trees[0], column)]))
    rows = np.ascontiguousarray(features[features[:, column] < BROKEN_ABOVE])
    return sound, replace(other, booster=booster, golden=golden_rows(booster, other.calibrator, rows))


def answers_late() -> Pair:
    """A version of 60,000 trees of the DART kind, which XGBoost walks tree by tree: about 70 ms a call."""
    usecase, features, y = _rows()
    sound, other = (_fit(usecase, features, y, seed) for seed in (1, 2))
    copies = SLOW_TREES // _SIZE["trees"]
    booster = _read(
        _as_dart(_with_trees(other, lambda trees: [_divide_leaves(tree, copies) for tree in trees] * copies))
    )
    rows = np.ascontiguousarray(features[::100])
    return sound, replace(other, booster=booster, golden=golden_rows(booster, other.calibrator, rows))


def leans_on_amounts() -> Pair:
    """A version that looks at amounts alone, after one that looks at places and hours.

    When amounts arrive in another unit, the scores of the first move and those of the second do not.
    """
    usecase, features, y = _rows()
    names = fit_model(usecase, features, y, 1, **_SIZE).plan.names
    places = _fit(usecase, _keep_columns(features, names, _PLACES), y, 1)
    return places, _fit(usecase, _keep_columns(features, names, _AMOUNTS), y, 2)


HARMS: Final[Mapping[str, Harm]] = {
    "alert_rate": Harm("alert_rate_high", "flags everybody", flags_everybody),
    "errors": Harm("error_rate", "has no score for some events", fails_on_some),
    "latency": Harm("p99_ms", "is slow", answers_late, rate=50.0, connections=64),
    "score_distribution": Harm(
        "score_psi", "leans on amounts, which then come in cents", leans_on_amounts, shifted=True
    ),
}
"""By the name of the guard."""


def _rows() -> tuple[UseCase, NDArray[np.float32], NDArray[np.int8]]:
    usecase = load_usecase(USECASE)
    return usecase, *training_rows(usecase, **SMALL_WORLD)


def _two_models() -> Pair:
    usecase, features, y = _rows()
    return _fit(usecase, features, y, 1), _fit(usecase, features, y, 2)


def _fit(usecase: UseCase, features: NDArray[np.float32], y: NDArray[np.int8], seed: int) -> ScoringModel:
    return replace(fit_model(usecase, features, y, seed, **_SIZE), threshold=_NOBODY)


def _keep_columns(
    features: NDArray[np.float32], names: Sequence[str], name_parts: Sequence[str]
) -> NDArray[np.float32]:
    """The rows with every other column constant, so that no tree can split by it."""
    reduced = features.copy()
    reduced[:, [not any(part in name for part in name_parts) for name in names]] = 0.0
    return reduced


def _with_trees(model: ScoringModel, change: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    """The booster's own JSON with other trees."""
    booster: dict[str, Any] = json.loads(bytes(model.booster.native.save_raw(raw_format="json")))
    forest = booster["learner"]["gradient_booster"]["model"]
    trees = [tree | {"id": number} for number, tree in enumerate(change(forest["trees"]))]
    forest |= {"trees": trees, "tree_info": [0] * len(trees), "iteration_indptr": list(range(len(trees) + 1))}
    forest["gbtree_model_param"]["num_trees"] = str(len(trees))
    return booster


def _as_dart(booster: dict[str, Any]) -> dict[str, Any]:
    learner = booster["learner"]
    trees = len(learner["gradient_booster"]["model"]["trees"])
    learner["gradient_booster"] = {
        "name": "dart", "gbtree": learner["gradient_booster"], "weight_drop": [1.0] * trees,
    }  # fmt: skip
    return booster


def _broken_stump(like: Mapping[str, Any], column: int) -> dict[str, Any]:
    """A tree of one question about the amount, one of whose answers is not a number."""
    nothing, root = [0, 0, 0], 2**31 - 1
    changes = {
        "base_weights": [0.0] * 3, "default_left": nothing, "left_children": [1, -1, -1],
        "right_children": [2, -1, -1], "loss_changes": [0.0] * 3, "parents": [root, 0, 0],
        "split_conditions": [BROKEN_ABOVE, 0.0, float("nan")], "split_indices": [column, 0, 0],
        "split_type": nothing, "sum_hessian": [0.0] * 3, "tree_param": like["tree_param"] | {"num_nodes": "3"},
    }  # fmt: skip
    return dict(like) | changes


def _divide_leaves(tree: Mapping[str, Any], times: int) -> dict[str, Any]:
    """A tree whose leaves say so much less that as many of them say the same together."""
    ends = [left == -1 for left in tree["left_children"]]
    leaves = [value / times if end else value for value, end in zip(tree["split_conditions"], ends, strict=True)]
    return dict(tree) | {"split_conditions": leaves}


def _read(data: dict[str, Any]) -> XGBoostBooster:
    return XGBoostBooster.load(json.dumps(data).encode())
