"""Why a score is what it is: the strongest TreeSHAP contributions of one event.

Contributions are in log odds and add up: bias + all contributions = the booster's raw margin (Lundberg
and others, "Consistent individualized feature attribution for tree ensembles", 2018). The calibrated
score is a monotone function of that margin, so a contribution above 0 raises it.

An answer is logged and remembered without its reasons. They are made from the windows right after the
answer, and made again for a repeated id: where the features have changed since (a late event, a label),
or another version is in office, reasons would explain another score, so there are none (``null``).
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
from bentos.scoring.active_models import ModelHolder, Office

STRONGEST: Final = 5
"""Reasons of an answer."""
Answer = bytes | Exception


class Explainer:
    """Adds reasons to answers; on the thread that scores.

    Args:
        office: who answers now, or none.
        score: answers events, see :meth:`bentos.scoring.scorer.Scorer.run`.
    """

    def __init__(self, office: Callable[[], Office | None], score: Callable[[Sequence[Event]], list[Answer]]) -> None:
        self._office = office
        self._score = score
        self._contributions: dict[ScoringModel, Predict] = {}

    def answer(self, event: Event) -> Answer:
        """Score one event and explain it; each alone, because a neighbour could change what its windows hold."""
        said = self._score([event])[0]
        if not isinstance(said, bytes):
            return said
        office = self._office()
        if office is None:
            raise ModelNotReady("no verified model is in office yet")
        return b"%b,%b" % (said[:-1], msgspec.json.encode(self._reasons(office, event, said))[1:])

    def answers(self, events: Sequence[Event]) -> list[Answer]:
        """The same for each event of a part of a list."""
        return [self.answer(event) for event in events]

    def _reasons(self, office: Office, event: Event, said: bytes) -> dict[str, Any]:
        """``reasons`` and ``margin`` of an answer; both are null where they would explain another score."""
        nothing = {"reasons": None, "margin": None}
        answered = msgspec.json.decode(said)
        holder = _holder(office, ModelRef(answered["model"]["name"], answered["model"]["version"]))
        if holder is None:
            return nothing
        # The event is in the windows already, and reading does not depend on that.
        features = office.plan.rows([event], office.windows)
        own = np.ascontiguousarray(features[:, holder.plan.positions_in(office.plan)])
        if float(holder.model.calibrator.apply(holder.predict(own))[0]) != answered["score"]:
            return nothing
        return explain(holder.plan.names, own[0], self._of(holder.model)(own)[0])

    def _of(self, model: ScoringModel) -> Predict:
        """The contributions of a model; only the ones in use are kept."""
        if (found := self._contributions.get(model)) is None:
            found = model.booster.quick_contributions(model.golden.features[:4])
            self._contributions = {**dict(list(self._contributions.items())[-1:]), model: found}
        return found


def _holder(office: Office, ref: ModelRef) -> ModelHolder | None:
    """The model of ours that gave an answer, if it still answers in one of the arms."""
    held = [office.holder] if office.fork is None else [office.holder, office.fork.challenger]
    return next((h for h in held if isinstance(h, ModelHolder) and h.ref == ref), None)


def explain(names: Sequence[str], values: Matrix, contributions: Matrix) -> dict[str, Any]:
    """The strongest reasons, and what the others come to.

    Args:
        names, values: the features, in the model's order; NaN is missing and told as null.
        contributions: one for each feature and the bias, in log odds.

    Returns:
        ``reasons``: at most five ``{feature, value, contribution, direction}``, strongest first;
        ``margin``: ``{bias, rest, total}`` with bias + contributions told + rest = total.
    """
    *each, bias = contributions.tolist()
    order = sorted((at for at in range(len(each)) if each[at]), key=lambda at: (-abs(each[at]), at))
    told = order[:STRONGEST]
    rest = math.fsum(each[at] for at in order[STRONGEST:])
    return {
        "reasons": [
            {
                "feature": names[at],
                "value": value if math.isfinite(value := float(values[at])) else None,
                "contribution": each[at],
                "direction": "raises" if each[at] > 0 else "lowers",
            }
            for at in told
        ],
        "margin": {"bias": bias, "rest": rest, "total": math.fsum([*each, bias])},
    }
