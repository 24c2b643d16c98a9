"""The slot: what is active, and what it takes to get there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bentos.errors import ModelCorrupt, NotPermitted
from bentos.features.plan import FeaturePlan
from bentos.model.isolated_check import Verifier
from bentos.model.scoring_model import CONTRACT_FILE, DIGESTS_FILE, MODEL_FILE, ScoringModel
from bentos.registry.cache import ModelCache
from bentos.registry.ports import ModelRef
from bentos.schema.event_schema import EventSchema
from bentos.scoring.active_models import ExternalHolder
from bentos.serving.role_watcher import Slot
from bentos.serving.version_check import Examiner, Permission
from bentos.usecase.definition import ExternalIncumbent
from bentos.windows.memory import MemoryWindows, WindowState
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.errors import StoreUnavailable
from monitoring.store import RoleChange, Store, memory_store
from tests.support.builders import fraud, tiny_model
from tests.support.fakes import FakeRegistry

NAME = "dev-fraud"
SCHEMA = EventSchema.of(fraud()).fingerprint


class Rooms:
    """Windows that are there at once, or only when somebody calls ``build``."""

    def __init__(self, at_once: bool = True) -> None:
        self.state: WindowState | None = None
        self.wanted: FeaturePlan | None = None
        self.at_once = at_once

    def want(self, plan: FeaturePlan) -> None:
        if self.state is not None and set(self.state.specs).issuperset(plan.specs):
            return
        self.wanted = plan
        if self.at_once:
            self.build()

    def build(self) -> None:
        assert self.wanted is not None
        self.state = MemoryWindows(self.wanted.specs)


class Apart(Verifier):
    """A verifier that looks in this process: the tests of the real one are elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Path] = []
        self.fault: ModelCorrupt | None = None

    def warm_up(self) -> None:
        pass

    def check(self, folder: Path, schema_fingerprint: str) -> None:
        self.seen.append(folder)
        if self.fault is not None:
            raise self.fault


class World:
    def __init__(
        self, folder: Path, at_once: bool = True, permit: Callable[..., None] = lambda ref, digest: None
    ) -> None:
        self.folder = folder
        self.registry = FakeRegistry(folder / "registry")
        self.rooms = Rooms(at_once)
        self.apart = Apart()
        self.changes = 0
        self.permit = permit
        self.slot = self.new_slot()

    def new_slot(self, external: ExternalHolder | None = None) -> Slot:
        """A slot as after a restart: the cache is what stays."""
        cache = ModelCache(self.folder / "cache")
        examiner = Examiner(NAME, SCHEMA, self.registry, cache, self.apart, self.permit)
        return Slot(NAME, self.registry, examiner, self.rooms, external, self._changed)

    def add(self, model: ScoringModel | None = None, role: str | None = None, seed: int = 1) -> str:
        scratch = self.folder / "scratch"
        (model or tiny_model(seed=seed)).save(scratch)
        version = self.registry.register(scratch, NAME).version
        if role is not None:
            self.registry.point(NAME, role, version)
        return version

    def damage(self, version: str, file: str = MODEL_FILE) -> None:
        place = self.folder / "registry" / NAME / version / file
        data = bytearray(place.read_bytes())
        data[len(data) // 2] ^= 1
        place.write_bytes(bytes(data))

    @property
    def served(self) -> str | None:
        return None if self.slot.active_models is None else self.slot.active_models.holder.ref.version

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nobody_is_in_office_before_a_champion_is_named(world: World) -> None:
    world.add()
    world.slot.poll()
    assert world.served is None


def test_the_champion_takes_office_after_it_was_looked_at_apart(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    assert world.served == "1"
    assert len(world.apart.seen) == 1
    assert world.changes == 1


def test_a_moved_alias_changes_the_office_once(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.add(role="champion", seed=2)
    for _ in range(3):
        world.slot.poll()
    assert world.served == "2"
    assert world.changes == 2


def test_a_rollback_to_a_version_that_served_lately_loads_nothing(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.add(role="champion", seed=2)
    world.slot.poll()
    world.registry.point(NAME, "champion", "1")
    world.slot.poll()
    assert world.served == "1"
    assert len(world.apart.seen) == 2


def test_an_outage_leaves_the_champion_in_office(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.registry.down = True
    world.slot.poll()
    assert world.served == "1"
    assert not world.slot.view.reachable


def test_a_missing_alias_leaves_the_champion_in_office(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.registry.clear(NAME, "champion")
    world.slot.poll()
    assert world.served == "1"


@pytest.mark.parametrize("file", [MODEL_FILE, CONTRACT_FILE, DIGESTS_FILE])
def test_a_flipped_bit_is_refused_before_anything_is_parsed(world: World, file: str) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.damage(world.add(seed=2), file)
    world.registry.point(NAME, "champion", "2")
    world.slot.poll()
    assert world.served == "1"
    assert world.slot.view.refused[ModelRef(NAME, "2")].reason == "corrupt"
    assert len(world.apart.seen) == 1


def test_a_model_that_breaks_its_reader_is_refused(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.apart.fault = ModelCorrupt("the model crashed the process that read it (SIGSEGV)")
    world.add(role="champion", seed=2)
    world.slot.poll()
    assert world.served == "1"
    assert "SIGSEGV" in world.slot.view.refused[ModelRef(NAME, "2")].message


def test_a_model_for_another_input_schema_is_refused(world: World) -> None:
    columns = fraud().columns
    other = fraud().model_copy(update={"columns": (*columns[:-1], columns[-1].model_copy(update={"max": 5.0}))})
    world.add(role="champion")
    world.slot.poll()
    world.add(tiny_model(other, seed=2), role="champion")
    world.slot.poll()
    assert world.served == "1"
    assert world.slot.view.refused[ModelRef(NAME, "2")].reason == "schema"


def test_a_refused_version_is_not_tried_at_every_look(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.apart.fault = ModelCorrupt("bad")
    world.add(role="champion", seed=2)
    for _ in range(3):
        world.slot.poll()
    assert len(world.apart.seen) == 2


def test_a_registry_outage_at_the_start_is_survived_from_the_last_verified_copy(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.registry.down = True
    world.slot = world.new_slot()
    world.slot.poll()
    assert world.served == "1"


def test_a_copy_that_was_changed_after_it_was_verified_is_not_served_from(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    # A whole and consistent model, but not the one that was verified here.
    tiny_model(seed=9).save(world.folder / "cache" / NAME / "1")
    world.registry.down = True
    world.slot = world.new_slot()
    world.slot.poll()
    assert world.served is None


def test_a_start_with_a_bad_champion_serves_the_last_good_one(world: World) -> None:
    world.add(role="champion")
    world.slot.poll()
    world.damage(world.add(seed=2))
    world.registry.point(NAME, "champion", "2")
    world.slot.poll()
    world.slot = world.new_slot()
    world.slot.poll()
    assert world.served == "1"
    assert ModelRef(NAME, "2") in world.slot.view.refused


def test_the_note_of_the_last_good_version_names_its_digest(world: World) -> None:
    model = tiny_model()
    world.add(model, role="champion")
    world.slot.poll()
    note = json.loads((world.folder / "cache" / "office.json").read_text())
    assert note == {"digests": {"dev-fraud/1": model.contract_digest}, "roles": {"champion": "dev-fraud/1"}}


def test_copies_of_versions_that_nobody_needs_are_deleted(world: World) -> None:
    for seed in range(1, 9):
        world.add(role="champion", seed=seed)
        world.slot.poll()
    kept = sorted(place.name for place in (world.folder / "cache" / NAME).iterdir())
    assert kept == ["4", "5", "6", "7", "8"] or kept == ["5", "6", "7", "8"]


def test_the_union_of_plans_covers_every_role(world: World) -> None:
    world.add(tiny_model(features=["amount", "customer_count_7d"]), role="champion")
    world.add(tiny_model(features=["amount", "terminal_risk_30d"]), role="challenger")
    world.slot.poll()
    assert world.slot.active_models is not None
    assert world.slot.active_models.plan.names == ("amount", "customer_count_7d", "terminal_risk_30d")
    assert world.slot.active_models.positions.tolist() == [0, 1]


def test_a_damaged_challenger_does_not_touch_the_champion(world: World) -> None:
    world.add(role="champion")
    world.damage(world.add(role="challenger", seed=2), CONTRACT_FILE)
    world.slot.poll()
    assert world.served == "1"
    assert world.slot.view.refused[ModelRef(NAME, "2")].reason == "corrupt"


def test_a_challenger_with_new_windows_is_computed_once_they_are_filled(world: World) -> None:
    world.add(tiny_model(features=["amount", "customer_count_7d"]), role="champion")
    world.slot.poll()
    world.rooms.at_once = False
    world.add(tiny_model(features=["amount", "terminal_risk_30d"]), role="challenger")
    world.slot.poll()
    assert world.slot.active_models is not None
    assert world.slot.active_models.plan.names == ("amount", "customer_count_7d")
    world.rooms.build()
    assert world.rooms.state is not None
    world.slot.set_windows(MemoryWindows((*world.rooms.state.specs, *world.slot.active_models.plan.specs)))
    world.rooms.state = world.slot.active_models.windows
    world.slot.poll()
    assert "terminal_risk_30d" in world.slot.active_models.plan.names


def test_a_champion_whose_windows_are_not_filled_waits_and_the_old_one_answers(world: World) -> None:
    world.add(tiny_model(features=["amount", "customer_count_7d"]), role="champion")
    world.slot.poll()
    world.rooms.at_once = False
    world.add(tiny_model(features=["amount", "terminal_risk_30d"]), role="champion")
    world.slot.poll()
    assert world.served == "1"
    world.rooms.build()
    world.slot.poll()
    assert world.served == "2"


def test_an_external_score_holds_office_until_a_model_does(world: World) -> None:
    external = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.5), FeaturePlan.of(fraud()))
    world.slot = world.new_slot(external)
    world.slot.poll()
    assert world.slot.active_models is not None
    assert world.slot.active_models.holder.alias == "external"
    world.add(role="champion")
    world.slot.poll()
    assert world.slot.active_models.holder.alias == "champion"


class TestPermission:
    """The journal decides which content may serve."""

    def world(self, tmp_path: Path, store: Store) -> World:
        cache = ModelCache(tmp_path / "cache")
        return World(tmp_path, permit=Permission(NAME, lambda: store, cache))

    def test_a_version_that_no_release_put_there_is_refused(self, tmp_path: Path) -> None:
        world = self.world(tmp_path, memory_store())
        world.add(role="champion")
        world.slot.poll()
        assert world.served is None
        assert world.slot.view.refused[ModelRef(NAME, "1")].reason == "journal"

    def test_a_version_that_the_journal_holds_is_served(self, tmp_path: Path) -> None:
        store, model = memory_store(), tiny_model()
        world = self.world(tmp_path, store)
        world.add(model, role="champion")
        _record(store, "1", model.contract_digest)
        world.slot.poll()
        assert world.served == "1"

    def test_another_content_under_a_permitted_version_is_refused(self, tmp_path: Path) -> None:
        store = memory_store()
        world = self.world(tmp_path, store)
        _record(store, "1", tiny_model(seed=1).contract_digest)
        world.add(tiny_model(seed=2), role="champion")
        world.slot.poll()
        assert world.served is None

    def test_a_digest_permitted_before_needs_no_journal(self, tmp_path: Path) -> None:
        store, model = memory_store(), tiny_model()
        world = self.world(tmp_path, store)
        world.add(model, role="champion")
        _record(store, "1", model.contract_digest)
        world.slot.poll()

        def away() -> Store:
            raise StoreUnavailable("down")

        world.permit = Permission(NAME, away, ModelCache(tmp_path / "cache"))
        world.slot = world.new_slot()
        world.slot.poll()
        assert world.served == "1"

    def test_without_the_journal_an_unknown_version_is_asked_about_again(self, tmp_path: Path) -> None:
        def away() -> Store:
            raise StoreUnavailable("down")

        world = World(tmp_path, permit=Permission(NAME, away, ModelCache(tmp_path / "cache")))
        world.add(role="champion")
        world.slot.poll()
        assert world.served is None
        assert not world.slot.view.refused
        world.permit = lambda ref, digest: None
        world.slot = world.new_slot()
        world.slot.poll()
        assert world.served == "1"

    def test_the_refusal_says_what_to_do(self, tmp_path: Path) -> None:
        permission = Permission(NAME, memory_store, ModelCache(tmp_path))
        with pytest.raises(NotPermitted, match="by a promotion"):
            permission(ModelRef(NAME, "1"), "0" * 64)


def _record(store: Store, version: str, digest: str) -> None:
    from datetime import UTC, datetime

    change = RoleChange(NAME, "champion", version, digest)
    store.decisions.append("fraud", "installation", {}, "a test", datetime.now(UTC), [change])


def test_a_consistent_forgery_of_all_files_changes_the_contract_digest() -> None:
    files = dict(tiny_model().files)
    contract = json.loads(files[CONTRACT_FILE])
    contract["threshold"]["value"] = contract["threshold"]["low"] = 0.0
    forged = canonical_json(contract)
    digests = canonical_json({MODEL_FILE: sha256_hex(files[MODEL_FILE]), CONTRACT_FILE: sha256_hex(forged)})
    assert sha256_hex(digests) != tiny_model().contract_digest
