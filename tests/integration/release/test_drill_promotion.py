"""The promotion drill, small: what it counts, that it holds, and that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from bentos.promotion.state_machine import Work
from bentos.registry.ports import Role
from flows.drills.fake_registry import MODEL, NOW, DrillWorld, broken_invariants
from flows.drills.interleaving import ActorScheduler
from flows.drills.promotion import Findings, drill_promotion, interleave, kill_once, memory_world
from monitoring.store import RoleChange


def test_a_small_drill_kills_every_write_and_finds_nothing(tmp_path: Path) -> None:
    found = drill_promotion(tmp_path / "drill", print, interleavings=5, mlflow=False, repeats=False)
    assert found["kill_points"] > 30
    assert (found["interleavings"], found["violations"]) == (5, 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_drill_finds_nothing(tmp_path: Path) -> None:
    found = drill_promotion(tmp_path / "drill", print, interleavings=1000)
    assert found["kill_points"] > 120
    assert (found["interleavings"], found["violations"]) == (1000, 0), found


def test_a_release_that_forgets_a_write_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Work, role: Role) -> RoleChange:
        return RoleChange(MODEL, role, None)

    monkeypatch.setattr(Work, "_vacate", forgetful)
    found = Findings()
    with memory_world(tmp_path) as world:
        assert kill_once(world(), None, DrillWorld.promote, None, 5, found)
    assert any("registry and journal apart" in violation for violation in found.violations)


def test_a_release_that_writes_over_a_strangers_hand_is_noticed(tmp_path: Path) -> None:
    with memory_world(tmp_path) as world:
        town = world()
        town.registry.point(MODEL, "champion", "3")
        town.registry.point(MODEL, "previous", "2")
        assert broken_invariants(town) == ["@champion is 3", "@previous is 2"]
        town.store.decisions.append("fraud", "installation", {}, "x", NOW, [RoleChange(MODEL, "champion", "3", "d")])
        assert len(broken_invariants(town, frozenset({"3"}))) == 2
        town.store.close()


def test_one_seed_is_one_order(tmp_path: Path) -> None:
    def chain(town: DrillWorld) -> list[str]:
        kept: list[str] = []
        close = town.store.database.dispose
        town.store.database.dispose = lambda: (  # type: ignore[method-assign]  # looked at just before it is gone
            kept.extend(d.kind for d in town.store.decisions.list()),
            close(),
        )[1]
        interleave(town, 5, Findings())
        return kept

    with memory_world(tmp_path) as world:
        assert chain(world()) == chain(world()) != []


def test_an_actor_that_fails_is_a_finding() -> None:
    turns = ActorScheduler(1, (ValueError,))
    turns.run([lambda turn: turn(), lambda turn: int("x"), lambda turn: {}["x"]])
    assert turns.failures == ["KeyError: 'x'"]
