"""The slot and the other arm: when the challenger may answer, and when the champion answers all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bentos.features.plan import FeaturePlan
from bentos.registry.routing_policy import EXTERNAL, ROUTING_TAG, Arm, RoutingPolicy, canary
from bentos.scoring.active_models import ExternalHolder
from bentos.usecase.definition import ExternalIncumbent
from bentos.windows.memory import MemoryWindows
from tests.support.builders import fraud, tiny_model
from tests.unit.bentos.serving.test_role_watcher import NAME, World

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def policy(share: float = 0.3, champion: str = "1", challenger: str = "2", **changes: Any) -> RoutingPolicy:
    base = RoutingPolicy("shadow", NAME, champion, challenger, (), "salt", "customer_id", NOW, "me")
    return RoutingPolicy(**vars(canary(base, share)) | changes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.add(role="champion")
    found.add(role="challenger", seed=2)
    return found


def arms(world: World) -> tuple[str | None, str | None]:
    """Who answers, and who answers the other arm."""
    active_models = world.slot.active_models
    if active_models is None:
        return None, None
    return (
        active_models.holder.ref.version,
        None if active_models.fork is None else active_models.fork.challenger.ref.version,
    )


def test_without_a_policy_the_champion_answers_all(world: World) -> None:
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert world.slot.view.routing.to_json()["mode"] == "shadow"


def test_a_canary_is_seen_at_the_next_look_and_gone_at_the_one_after_its_end(world: World) -> None:
    world.slot.poll()
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    assert arms(world) == ("1", "2")
    assert world.slot.active_models is not None
    assert world.slot.active_models.fork is not None
    assert world.slot.active_models.fork.challenger.alias == "challenger"
    assert world.slot.active_models.holder.alias == "champion"
    assert world.slot.view.routing.share == 0.3
    changes = world.changes
    world.slot.poll()
    assert world.changes == changes
    world.registry.set_routing(NAME, policy(0.0))
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert world.changes == changes + 1


def test_a_change_of_the_share_keeps_the_loaded_version(world: World) -> None:
    for share in (0.1, 0.5):
        world.registry.set_routing(NAME, policy(share))
        world.slot.poll()
    assert world.slot.view.routing.share == 0.5
    assert len(world.apart.seen) == 2


def test_a_refused_challenger_gets_nothing_and_is_named(world: World) -> None:
    world.damage("2")
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    assert arms(world) == ("1", None)
    said = world.slot.view.routing
    assert (said.applied, said.share) == (False, 0.0)
    assert "refused (corrupt)" in said.problem


def test_a_version_that_the_journal_does_not_hold_gets_no_traffic_as_challenger(world: World, tmp_path: Path) -> None:
    from bentos.errors import NotPermitted
    from bentos.registry.ports import ModelRef

    def permit(ref: ModelRef, digest: str) -> None:
        if ref.version == "2":
            raise NotPermitted("not in the journal")

    world.permit = permit
    world.slot = world.new_slot()
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert "refused (journal)" in world.slot.view.routing.problem


def test_the_next_challenger_starts_without_the_traffic_of_the_last(world: World) -> None:
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    world.add(role="challenger", seed=3)
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert "about 1 against 2" in world.slot.view.routing.problem
    world.registry.point(NAME, "challenger", "2")
    world.slot.poll()
    assert arms(world) == ("1", "2")


def test_a_promoted_challenger_answers_all_and_the_old_policy_is_over(world: World) -> None:
    world.registry.set_routing(NAME, policy(1.0))
    world.slot.poll()
    world.registry.point(NAME, "champion", "2")
    world.slot.poll()
    assert arms(world) == ("2", None)
    assert world.slot.active_models is not None
    assert world.slot.active_models.holder.alias == "champion"


def test_a_challenger_with_cold_windows_waits_and_the_champion_answers_all(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add(tiny_model(features=["amount", "customer_count_7d"]), role="champion")
    world.slot.poll()
    world.rooms.at_once = False
    world.add(tiny_model(features=["amount", "terminal_risk_30d"]), role="challenger")
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert "windows" in world.slot.view.routing.problem
    assert world.rooms.state is not None
    world.rooms.build()
    world.slot.set_windows(MemoryWindows((*world.rooms.state.specs, *FeaturePlan.of(fraud()).specs)))
    world.rooms.state = world.slot.active_models.windows if world.slot.active_models else None
    world.slot.poll()
    assert arms(world) == ("1", "2")
    assert world.slot.active_models is not None
    assert world.slot.active_models.fork is not None
    names = world.slot.active_models.plan.names
    fork = world.slot.active_models.fork
    assert [names[i] for i in fork.positions] == list(fork.challenger.plan.names)


def test_a_policy_that_cannot_be_read_changes_nothing_and_is_shown(world: World) -> None:
    world.registry._routing[NAME] = '{"mode": "chaos"}'
    world.slot.poll()
    assert arms(world) == ("1", None)
    assert "cannot be read" in world.slot.view.routing.problem
    assert ROUTING_TAG == "incumbent.routing"


def test_an_outage_of_the_registry_leaves_the_arms_as_they_are(world: World) -> None:
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    world.registry.down = True
    world.slot.poll()
    assert arms(world) == ("1", "2")


def test_named_arms_need_no_share_above_zero_to_be_told_apart(world: World) -> None:
    split = (Arm("control", "champion", 0.5), Arm("again", "champion", 0.5))
    world.registry.set_routing(NAME, policy(mode="ab", arms=split))
    world.slot.poll()
    assert arms(world) == ("1", "2")


class TestExternal:
    """An external incumbent beside a challenger, and active again."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        found = World(tmp_path)
        outsider = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.5), FeaturePlan.of(fraud()))
        found.slot = found.new_slot(outsider)
        found.add(role="challenger")
        return found

    def test_a_canary_beside_it(self, world: World) -> None:
        world.registry.set_routing(NAME, policy(0.1, EXTERNAL, "1"))
        world.slot.poll()
        assert arms(world) == ("0", "1")

    def test_it_returns_only_when_that_is_said(self, world: World) -> None:
        world.registry.point(NAME, "champion", "1")
        world.slot.poll()
        assert arms(world) == ("1", None)
        world.registry.clear(NAME, "champion")
        world.slot.poll()
        assert arms(world) == ("1", None)
        world.registry.set_routing(NAME, policy(0.0, EXTERNAL, "1", mode="external"))
        world.slot.poll()
        assert arms(world) == ("0", None)


def test_while_the_windows_of_a_new_champion_are_filled_the_old_one_answers_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    for seed, role in ((1, "champion"), (2, "challenger")):
        world.add(tiny_model(seed=seed, features=["amount", "customer_count_7d"]), role=role)
    world.registry.set_routing(NAME, policy())
    world.slot.poll()
    assert arms(world) == ("1", "2")
    world.rooms.at_once = False
    world.add(tiny_model(seed=3, features=["amount", "terminal_risk_30d"]), role="champion")
    world.slot.poll()
    assert arms(world) == ("1", None)
