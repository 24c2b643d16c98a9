"""A judged version gets the seat it has earned, and nobody loses one to it by accident."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import PromotionUnproven
from bentos.promotion.evidence import write_training
from bentos.promotion.promote import ReleaseContext, Request
from bentos.registry.mlflow import ModelRef
from bentos.settings import Settings, read_settings
from bentos.usecase.definition import ExternalIncumbent, UseCase
from flows.errors import FlowRefused
from flows.steps.training.role_assignment import RoleAssignment, assign_role
from monitoring.core.verdict import Verdict
from monitoring.store import Store, memory_store
from tests.support.builders import fraud, tiny_model
from tests.support.fakes import FakeRegistry

NAME = "dev-fraud"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
ASKED = Request("test", "", NOW)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(home=tmp_path, env="dev")


def version(registry: FakeRegistry, tmp_path: Path, seed: int = 1) -> ModelRef:
    folder = tmp_path / f"model-{seed}"
    tiny_model(seed=seed).save(folder)
    return registry.register(folder, NAME)


def passed(ref: ModelRef, outcome: str = "pass", beside: ModelRef | None = None) -> Verdict:
    champion = None if beside is None else beside.label
    return Verdict("gate", outcome, (), ref.label, champion, NOW, reasons=("recall is 0.1, the limit is 0.5 (fail)",))


def give(registry: FakeRegistry, store: Store, settings: Settings, ref: ModelRef | None, verdict: Verdict,
         usecase: UseCase | None = None) -> RoleAssignment:  # fmt: skip
    if ref is not None:  # as a training does before it asks for a role
        write_training(store, "fraud", ref.label, verdict, "test", NOW)
    return assign_role(context_of(usecase or fraud(), settings, registry, store), ref, verdict, ASKED)


def context_of(usecase: UseCase, settings: Settings, registry: FakeRegistry, store: Store) -> ReleaseContext:
    return ReleaseContext(registry, store, usecase, settings.model_name(usecase.name), lambda _: None)


def test_the_first_takes_office_the_second_challenges_the_third_waits(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    refs = [version(registry, tmp_path, seed) for seed in (1, 2, 3, 4)]
    seats = [give(registry, store, settings, ref, passed(ref)) for ref in refs]
    assert [s.role for s in seats] == ["champion", "challenger", "candidate", None]
    assert "waits for its turn already, and nothing is evicted" in seats[3].reason
    assert registry.roles(NAME) == {"champion": refs[0], "challenger": refs[1], "candidate": refs[2]}


def test_whoever_waited_longer_goes_first(registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path):
    refs = [version(registry, tmp_path, seed) for seed in (1, 2, 3, 4)]
    for ref in refs[:3]:
        give(registry, store, settings, ref, passed(ref))
    registry.clear(NAME, "challenger")
    assert give(registry, store, settings, refs[3], passed(refs[3])).role == "candidate"
    assert registry.roles(NAME) == {"champion": refs[0], "challenger": refs[2], "candidate": refs[3]}


def test_giving_a_seat_again_changes_nothing(registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path):
    ref = version(registry, tmp_path)
    first = give(registry, store, settings, ref, passed(ref))
    writes = len(registry.writes)
    again = give(registry, store, settings, ref, passed(ref))
    assert (first.role, again.role, again.label) == ("champion", "champion", f"{NAME}/1")
    assert len(registry.writes) == writes


@pytest.mark.parametrize("outcome", ["fail", "insufficient"])
def test_a_refused_model_gets_no_seat_and_hears_why(
    registry: FakeRegistry, store: Store, settings: Settings, outcome: str
):
    found = give(registry, store, settings, None, passed(ModelRef(NAME, "1"), outcome))
    assert (found.role, found.label) == (None, None)
    assert found.reason == f"the gates say {outcome}: recall is 0.1, the limit is 0.5 (fail)"
    assert not registry.writes


def test_an_external_incumbent_is_challenged_not_replaced(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    usecase = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.5)})
    ref = version(registry, tmp_path)
    assert give(registry, store, settings, ref, passed(ref), usecase).role == "challenger"
    assert registry.roles(NAME) == {"challenger": ref}


def test_a_verdict_about_another_model_gives_no_seat(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    one, two = version(registry, tmp_path, 1), version(registry, tmp_path, 2)
    with pytest.raises(FlowRefused, match="judge that version"):
        give(registry, store, settings, one, passed(two))
    production = read_settings(home=tmp_path, env="prod")
    with pytest.raises(FlowRefused, match="never crosses"):
        give(registry, store, production, one, passed(one))


def fast(**promotion: Any) -> UseCase:
    """A fast stream: a model becomes champion after its gates."""
    changed = fraud().promotion.model_copy(update={"takes_office": "after_gates"} | promotion)
    return fraud().model_copy(update={"promotion": changed})


def test_in_a_fast_stream_a_model_takes_office_after_its_gates(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    first, second = (version(registry, tmp_path, seed) for seed in (1, 2))
    give(registry, store, settings, first, passed(first), fast())
    verdict = passed(second, beside=first)
    given = give(registry, store, settings, second, verdict, fast())
    assert (given.role, given.label) == ("champion", second.label)
    assert registry.roles(NAME) == {"champion": second, "previous": first}
    (planned,) = store.decisions.list(kinds=("promotion.planned",))
    assert Verdict.from_json(planned.payload["verdict"]) == verdict
    assert all(one.closed_at is not None for one in store.comparisons.list("fraud"))


def test_a_gate_verdict_that_no_training_entered_gives_no_office(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    first, second = (version(registry, tmp_path, seed) for seed in (1, 2))
    give(registry, store, settings, first, passed(first), fast())
    context = context_of(fast(), settings, registry, store)
    with pytest.raises(PromotionUnproven, match="made up"):
        assign_role(context, second, passed(second, beside=first), ASKED)
    assert registry.roles(NAME)["champion"] == first


def test_a_model_whose_gates_could_not_measure_the_champion_is_compared_all_the_same(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    first, second = (version(registry, tmp_path, seed) for seed in (1, 2))
    give(registry, store, settings, first, passed(first), fast())
    given = give(registry, store, settings, second, passed(second), fast())
    assert (given.role, registry.roles(NAME)["champion"]) == ("challenger", first)
    assert "could not measure" in given.reason


def test_where_promotions_are_held_a_fast_model_waits_under_comparison(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path
):
    closed = fast(freeze=((NOW.date(), NOW.date()),))
    first, second = (version(registry, tmp_path, seed) for seed in (1, 2))
    give(registry, store, settings, first, passed(first), closed)
    given = give(registry, store, settings, second, passed(second, beside=first), closed)
    assert (given.role, registry.roles(NAME)["champion"]) == ("challenger", first)
    assert "until then it is compared in shadow" in given.reason


@pytest.mark.parametrize("outcome", ["fail", "insufficient"])
def test_a_registered_version_whose_gates_did_not_pass_gets_no_role_either(
    registry: FakeRegistry, store: Store, settings: Settings, tmp_path: Path, outcome: str
):
    first, second = (version(registry, tmp_path, seed) for seed in (1, 2))
    assert give(registry, store, settings, first, passed(first, outcome)).role is None
    give(registry, store, settings, first, passed(first))
    found = give(registry, store, settings, second, passed(second, outcome, first))
    assert (found.role, found.ref) == (None, second)
    assert registry.roles(NAME) == {"champion": first}
