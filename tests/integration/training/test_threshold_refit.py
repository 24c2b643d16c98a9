"""A threshold refit: the same booster, a patch version, the ordinary road into the champion's role and back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.model.scoring_model import ScoringModel
from bentos.promotion.promote import ReleaseContext, Request
from bentos.usecase.definition import UseCase
from flows.errors import TooFewRows
from flows.steps.training.refit_threshold import Refit, refit_threshold
from flows.steps.training.role_assignment import assign_role
from monitoring.core.verdict import Verdict
from monitoring.policies import CapacityPolicy
from monitoring.store import memory_store
from tests.integration.training.test_training import AS_OF, Workshop, history, small
from tests.support.release_requests import rollback
from tests.support.releases import promote

MONTH_END = AS_OF + timedelta(days=13)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("refit"))
    assert made.train().ref is not None
    return made


def tight() -> UseCase:
    """Since then the analysts' capacity has shrunk."""
    return small().model_copy(update={"capacity": CapacityPolicy(alerts_per_day=10)})


def refit(shop: Workshop, as_of: object = MONTH_END) -> Refit:
    (parent,) = (v.ref for v in shop.registry.versions("dev-fraud") if v.ref.version == "1")
    model = ScoringModel.load(shop.registry.fetch(parent, shop.settings.root / "fetched"))
    return refit_threshold(
        tight(), parent, model, history(as_of), as_of, shop.stores  # type: ignore[arg-type]  # a datetime
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(shop: Workshop) -> Refit:
    return refit(shop)


def test_the_booster_stays_and_calibrator_and_threshold_are_new(shop: Workshop, made: Refit, tmp_path: Path) -> None:
    old = ScoringModel.load(shop.registry.fetch(made.parent, tmp_path / "old"))
    assert made.ref is not None
    new = ScoringModel.load(shop.registry.fetch(made.ref, tmp_path / "new"))
    assert new.booster_digest == old.booster_digest
    assert new.calibrator != old.calibrator
    assert new.threshold.alerts_per_day == 10
    assert new.threshold.value > old.threshold.value
    assert new.profile.features == old.profile.features
    assert new.plan.fingerprint == old.plan.fingerprint
    new.check_golden()


def test_it_is_a_patch_version_with_its_lineage_and_has_passed_the_gates(shop: Workshop, made: Refit) -> None:
    assert made.ref is not None
    tags = shop.registry.describe(made.ref).tags
    assert (tags["semantic_version"], tags["parent"], tags["refit_of"]) == ("1.0.1", "dev-fraud/1", "dev-fraud/1")
    assert tags["gates"] == "pass"
    assert made.found.verdict.challenger == made.ref.label
    window, until = made.found.evidence.window, made.found.evidence.trained_until
    assert window is not None
    assert until is not None
    assert until <= window.start


def test_too_few_matured_days_behind_the_version_are_refused(shop: Workshop) -> None:
    with pytest.raises(TooFewRows, match="a refit takes 3"):
        refit(shop, AS_OF)


def test_it_challenges_takes_office_by_a_verdict_and_is_rolled_back_like_any_other(shop: Workshop, made: Refit) -> None:
    assert made.ref is not None
    store = memory_store()
    gate = Verdict("gate", "pass", (), made.parent.label, None, AS_OF)
    known: dict[str, Any] = {"actor": "ann", "check": lambda folder: None}
    context = ReleaseContext(shop.registry, store, small(), "dev-fraud", known["check"])
    first = assign_role(context, made.parent, gate, Request("ann", "", AS_OF))
    assert first.role == "champion"
    second = assign_role(context, made.ref, made.found.verdict, Request("ann", "", MONTH_END))
    assert second.role == "challenger"
    (comparison,) = store.comparisons.list("fraud")
    assert comparison.plan.challenger == made.ref.label
    verdict = Verdict("comparison", "promote", (), made.ref.label, made.parent.label, MONTH_END, ("it saves money",))
    promote(shop.registry, store, verdict, usecase=small(), now=MONTH_END, **known)
    assert shop.registry.resolve("dev-fraud", "champion") == made.ref
    rollback(
        shop.registry, store, "dev-fraud", small(), "ann", "too many alerts", MONTH_END, check=known["check"]
    )  # fmt: skip
    assert shop.registry.resolve("dev-fraud", "champion") == made.parent
    store.close()
