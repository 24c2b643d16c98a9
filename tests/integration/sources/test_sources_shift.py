"""The declared shift is a real one: a model of the old world misses it, a retrained one learns it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import Shift
from flows.sources import open_source
from flows.sources.simulator import SimulatorSource
from tests.integration.sources.source_cases import FRAUD

SHIFT_DAY = 48


class World:
    """Features, scenarios and days of a world whose thieves learn something new."""

    def __init__(self) -> None:
        shift = Shift(day=SHIFT_DAY, kind="fraud_scenario", factor=3.0)
        source = open_source(FRAUD, "simulator", days=78, shifts=(shift,))
        assert isinstance(source, SimulatorSource)
        read = source.read(source.extent())
        self.features = FeaturePlan.of(FRAUD).build(read.events, read.labels, source.extent().end).to_numpy()
        self.scenario = source.scenarios(source.extent()).to_numpy()
        self.day = (read.events["tx_time"] - source.extent().start).dt.days.to_numpy()

    def fit(self, first: int, last: int) -> xgboost.Booster:
        rows = (self.day >= first) & (self.day < last)
        data = xgboost.DMatrix(self.features[rows], label=self.scenario[rows] > 0)
        settings = {"objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "base_score": 0.5, "nthread": 1}
        return xgboost.train(settings, data, 60)

    def recall(self, model: xgboost.Booster, first: int, last: int) -> dict[int, float]:
        """Recall of each scenario where one genuine transaction in fifty is flagged."""
        rows = (self.day >= first) & (self.day < last)
        scores: NDArray[Any] = model.predict(xgboost.DMatrix(self.features[rows]))
        scenario = self.scenario[rows]
        flagged = scores > np.quantile(scores[scenario == 0], 0.98)
        return {int(s): float(flagged[scenario == s].mean()) for s in np.unique(scenario)}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_model_of_the_old_world_misses_the_new_scenario(world: World) -> None:
    old = world.fit(20, SHIFT_DAY)
    recall = world.recall(old, SHIFT_DAY + 14, 78)
    assert recall[4] < 0.25
    assert recall[2] > 0.5


def test_a_retrained_model_catches_the_new_scenario(world: World) -> None:
    new = world.fit(SHIFT_DAY, SHIFT_DAY + 14)
    assert world.recall(new, SHIFT_DAY + 14, 78)[4] > 0.8
