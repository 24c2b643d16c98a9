"""Why a score is what it is: the strongest TreeSHAP contributions of one event.

Contributions are in log odds and add up: bias + all contributions = the booster's raw margin (Lundberg
and others, "Consistent individualized feature attribution for tree ensembles", 2018). The calibrated
score is a monotone function of that margin, so a contribution above 0 raises it.

An answer is logged and remembered without its reasons. They are made from the windows right after the
answer, and made again for a repeated id: where the features have changed since (a late event, a label),
or another version is active, reasons would explain another score, so there are none (``null``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from bentos.errors import ModelNotReady
from bentos.model.booster import Matrix, Predict
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModels, ModelHolder

STRONGEST: Final = 5
"""Reasons of an answer."""
Answer = bytes | Exception


class Explainer:
    """Adds reasons to answers; on the thread that scores.

    Args:
        active_models: who answers now, or none.
        score: answers events, see :meth:`bentos.scoring.scorer.Scorer.run`.
    """

    def __init__(
        self, active_models: Callable[[], ActiveModels | None], score: Callable[[Sequence[Event]], list[Answer]]
    ) -> None:
        self._office = active_models
        self._score = score
        self._contributions: dict[ScoringModel, Predict] = {}

    def answer(self, event: Event) -> Answer:
        """Score one event and explain it; each alone, because a neighbour could change what its windows hold."""
        encoded_answer = self._score([event])[0]
        if not isinstance(encoded_answer, bytes):
            return encoded_answer
        active_models = self._office()
        if active_models is None:
            raise ModelNotReady("no verified model is active yet")
        return b"%b,%b" % (
            encoded_answer[:-1],
            msgspec.json.encode(self._reasons(active_models, event, encoded_answer))[1:],
        )

    def answers(self, events: Sequence[Event]) -> list[Answer]:
        """The same for each event of a part of a list."""
        return [self.answer(event) for event in events]

    def _reasons(self, active_models: ActiveModels, event: Event, encoded_answer: bytes) -> dict[str, Any]:
        """``reasons`` and ``margin`` of an answer; both are null where they would explain another score."""
        no_reasons = {"reasons": None, "margin": None}
        decoded = msgspec.json.decode(encoded_answer)
        holder = _holder(active_models, ModelRef(decoded["model"]["name"], decoded["model"]["version"]))
        if holder is None:
            return no_reasons
        # The event is in the windows already, and reading does not depend on that.
        features = active_models.plan.rows([event], active_models.windows)
        own_features = np.ascontiguousarray(features[:, holder.plan.positions_in(active_models.plan)])
        if float(holder.model.calibrator.apply(holder.predict(own_features))[0]) != decoded["score"]:
            return no_reasons
        return explain(holder.plan.names, own_features[0], self._of(holder.model)(own_features)[0])

    def _of(self, model: ScoringModel) -> Predict:
        """The contributions of a model; only the ones in use are kept."""
        if (predict := self._contributions.get(model)) is None:
            predict = model.booster.quick_contributions(model.golden.features[:4])
            self._contributions = {**dict(list(self._contributions.items())[-1:]), model: predict}
        return predict


def _holder(active_models: ActiveModels, ref: ModelRef) -> ModelHolder | None:
    """The model of ours that gave an answer, if it still answers in one of the arms."""
    holders = (
        [active_models.holder] if active_models.fork is None else [active_models.holder, active_models.fork.challenger]
    )
    return next((h for h in holders if isinstance(h, ModelHolder) and h.ref == ref), None)


def explain(names: Sequence[str], values: Matrix, contributions: Matrix) -> dict[str, Any]:
    """The strongest reasons, and what the others come to.

    Args:
        names, values: the features, in the model's order; NaN is missing and told as null.
        contributions: one for each feature and the bias, in log odds.

    Returns:
        ``reasons``: at most five ``{feature, value, contribution, direction}``, strongest first;
        ``margin``: ``{bias, rest, total}`` with bias + contributions told + rest = total.
    """
    *amounts, bias = contributions.tolist()
    order = sorted((at for at in range(len(amounts)) if amounts[at]), key=lambda at: (-abs(amounts[at]), at))
    top = order[:STRONGEST]
    other_total = math.fsum(amounts[at] for at in order[STRONGEST:])
    return {
        "reasons": [
            {
                "feature": names[at],
                "value": value if math.isfinite(value := float(values[at])) else None,
                "contribution": amounts[at],
                "direction": "raises" if amounts[at] > 0 else "lowers",
            }
            for at in top
        ],
        "margin": {"bias": bias, "rest": other_total, "total": math.fsum([*amounts, bias])},
    }
