from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import ModelCorrupt, NothingToRollBack, PromotionHeld, ReleaseError, StaleDecision
from bentos.promotion.change_freeze import why_held_now
from bentos.promotion.promote import ReleaseOutcome
from bentos.usecase.definition import ExternalIncumbent, UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Store, memory_store
from monitoring.store.database.frames import to_us
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.log.logged import scored
from tests.support.release_requests import (
    appoint,
    appoint_next_candidate,
    dismiss,
    install_first,
    lift_bar,
    reconcile,
    recover,
    rollback,
)
from tests.support.release_requests import promote as promote_as_it_is
from tests.support.releases import MODEL, NOW, compared, harmless, passed, promote, ref, registry_of, version_files

LATER = NOW + timedelta(days=1)


class Town:
    """A registry, a store and a use case, with short words for what is asked of them."""

    def __init__(self, registry: FakeRegistry, store: Store, usecase: UseCase | None = None) -> None:
        self.registry, self.store = registry, store
        self.usecase = usecase or fraud()
        self.check: Any = harmless

    def install(self, version: str = "1", **more: Any) -> ReleaseOutcome:
        return install_first(
            self.registry, self.store, passed(version), usecase=self.usecase, actor="ann", now=NOW, check=self.check,
            **more,
        )  # fmt: skip

    def appoint(self, version: str, role: Any = "challenger", **more: Any) -> Any:
        return appoint(
            self.registry, self.store, ref(version), role, usecase=self.usecase, actor="ann", now=NOW,
            reason="it passed", check=self.check, **more,
        )  # fmt: skip

    def promote(self, verdict: Any, **more: Any) -> ReleaseOutcome:
        names = {"usecase": self.usecase, "actor": "ann", "now": NOW, "check": self.check} | more
        return promote(self.registry, self.store, verdict, **names)

    def rollback(self, reason: str = "too many alerts", **more: Any) -> ReleaseOutcome:
        names = {"check": self.check, "patience": 0.0} | more
        return rollback(self.registry, self.store, MODEL, self.usecase, "bob", reason, LATER, **names)

    def roles(self) -> dict[str, str]:
        return {role: found.version for role, found in self.registry.roles(MODEL).items()}

    def journalled(self) -> dict[str, str]:
        names = ("champion", "challenger", "candidate", "previous")
        held = {name: self.store.decisions.role_at(MODEL, name, LATER) for name in names}
        return {name: version for name, version in held.items() if version is not None}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    store = memory_store()
    yield Town(registry_of(tmp_path), store)
    store.close()


@pytest.fixture
def ready(town: Town) -> Town:
    """Version 1 active, version 2 compared with it."""
    town.install()
    town.appoint("2")
    return town


def test_the_first_model_that_passes_takes_office(town: Town) -> None:
    done = town.install()
    assert (done.kind, done.from_version, done.to_version, done.state) == ("installation", None, "1", "DONE")
    assert town.roles() == town.journalled() == {"champion": "1"}
    assert town.install() == ReleaseOutcome(
        **{**vars(done), "repeated": True, "steps": (), "message": f"done before: {done.message}"}
    )


def test_a_second_model_cannot_be_installed_over_the_first(town: Town) -> None:
    town.install()
    with pytest.raises(StaleDecision, match="active already"):
        town.install("2")


def test_gates_that_did_not_pass_install_nobody(town: Town) -> None:
    for verdict in (compared(None, "1"), passed("1").__class__("gate", "insufficient", (), ref("1").label, None, NOW)):
        with pytest.raises(ReleaseError, match="gates"):
            install_first(town.registry, town.store, verdict, usecase=fraud(), actor="ann", now=NOW, check=harmless)
    assert town.roles() == {}


def test_a_promotion_changes_the_roles_and_tells_the_journal(ready: Town) -> None:
    done = ready.promote(compared("1", "2"))
    assert (done.from_version, done.to_version, done.state, done.acknowledged) == ("1", "2", "DONE", None)
    assert done.steps == ("@previous = 1", "@champion = 2", "@challenger cleared")
    assert ready.roles() == ready.journalled() == {"champion": "2", "previous": "1"}
    kinds = [d.kind for d in ready.store.decisions.list() if d.kind.startswith("promotion")]
    states = ["planned", "verified", "previous_set", "champion_set", "confirmed", "done"]
    assert kinds == [f"promotion.{state}" for state in states]
    assert ready.store.decisions.verify() == []


def test_the_champion_is_written_once_and_after_the_way_back(ready: Town) -> None:
    ready.registry.writes.clear()
    ready.promote(compared("1", "2"))
    assert ready.registry.writes == [(MODEL, "previous", "1"), (MODEL, "champion", "2"), (MODEL, "challenger", None)]


def test_the_verdict_is_in_the_chain_of_decisions(ready: Town) -> None:
    verdict = compared("1", "2")
    ready.promote(verdict)
    (planned,) = ready.store.decisions.list(kinds=("promotion.planned",))
    assert Verdict.from_json(planned.payload["verdict"]) == verdict
    assert planned.payload["evidence"] == verdict.digest
    assert planned.payload["reason"] == "it saves money"


def test_the_same_verdict_promotes_once(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    ready.registry.writes.clear()
    assert ready.promote(compared("1", "2")).repeated
    assert ready.registry.writes == []


@pytest.mark.parametrize("outcome", ["keep", "keep_watching"])
def test_only_a_verdict_that_says_promote_promotes(ready: Town, outcome: str) -> None:
    with pytest.raises(ReleaseError, match="it saves money"):
        ready.promote(compared("1", "2", outcome))
    with pytest.raises(ReleaseError):
        ready.promote(passed("2"))
    with pytest.raises(ReleaseError, match="needs a Verdict"):
        ready.promote({"outcome": "promote"})
    assert ready.roles() == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(
    "verdict",
    [passed("2"), replace(passed("2"), outcome="fail", champion=ref("1").label)],
)
def test_gates_promote_only_a_model_that_passed_beside_the_champion(ready: Town, verdict: Any) -> None:
    policy = ready.usecase.promotion.model_copy(update={"takes_office": "after_gates"})
    ready.usecase = ready.usecase.model_copy(update={"promotion": policy})
    with pytest.raises(ReleaseError, match="the gates say"):
        ready.promote(verdict)
    with pytest.raises(StaleDecision):
        ready.promote(replace(passed("2"), champion=ref("3").label))
    ready.promote(replace(passed("2"), champion=ref("1").label))
    assert ready.roles() == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("verdict", [compared("3", "2"), compared(None, "2"), compared("1", "3")])
def test_a_verdict_about_other_models_is_stale(ready: Town, verdict: Any) -> None:
    with pytest.raises(StaleDecision):
        ready.promote(verdict)
    assert ready.roles() == {"champion": "1", "challenger": "2"}
    assert ready.store.journal.unfinished(MODEL) == []


def test_an_external_incumbent_is_replaced_like_any_other(town: Town) -> None:
    town.appoint("1")
    done = town.promote(replace(compared(None, "1"), champion="vendor_score/0"))
    assert (done.from_version, town.roles()) == (None, {"champion": "1"})


def beside_vendor(town: Town) -> Town:
    """Version 1 has replaced the external score of the use case."""
    incumbent = ExternalIncumbent(column="amount", threshold=0.4)
    town.usecase = town.usecase.model_copy(update={"incumbent": incumbent})
    town.appoint("1")
    town.promote(replace(compared(None, "1"), champion="amount/0"))
    return town


@pytest.mark.parametrize("finish", ["recover", "reconcile"])
@pytest.mark.parametrize("writes", range(6))
def test_a_return_to_the_external_score_that_died_is_ended_by_whoever_comes_next(
    town: Town, writes: int, finish: str
) -> None:
    from tests.support.releases import Killed, Process, dies_after, time_passes

    beside_vendor(town)
    process = Process(town.registry, town.store, dies_after(writes))
    with suppress(Killed):
        rollback(
            process.registry, process.store, MODEL, town.usecase, "ann", "the model harms", NOW,
            patience=0.0, check=harmless,
        )  # fmt: skip
    time_passes(town.store)
    named: Any = {"usecase": town.usecase, "actor": "bob", "now": NOW}
    if finish == "recover":
        recover(town.registry, town.store, MODEL, check=harmless, **named)
    else:
        reconcile(town.registry, town.store, MODEL, **named)
    decided = town.store.decisions.last("fraud", ("rollback.external",)) is not None
    assert town.roles() == ({} if decided else {"champion": "1"})
    assert {role: version for role, version in town.journalled().items() if version} == town.roles()
    if decided:
        policy = town.registry.routing(MODEL)
        assert policy is not None
        assert (policy.mode, policy.actor, policy.reason) == ("external", "ann", "the model harms")
    assert town.store.decisions.verify() == []


def test_an_alias_set_by_hand_after_a_return_is_not_cleared(town: Town) -> None:
    beside_vendor(town)
    town.rollback("the model harms")
    town.registry.point(MODEL, "champion", "2")
    recover(town.registry, town.store, MODEL, usecase=town.usecase, actor="bob", now=NOW, check=harmless)
    assert town.roles() == {"champion": "2"}


@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_version_that_must_not_serve_stays_out(ready: Town, act: str) -> None:
    if act == "rollback":
        ready.promote(compared("1", "2"))
    before = ready.roles()

    def refuse(folder: Path) -> None:
        raise ModelCorrupt("golden rows differ")

    ready.check = refuse
    with pytest.raises((ReleaseError, ModelCorrupt), match="golden rows"):
        ready.promote(compared("1", "2")) if act == "promote" else ready.rollback()
    assert ready.roles() == before


def test_content_that_changes_under_the_lease_is_taken_back_and_may_be_asked_for_again(
    ready: Town, tmp_path: Path
) -> None:
    def swapped_meanwhile(folder: Path) -> None:
        ready.check = harmless
        stored = ready.registry.fetch(ref("2"), tmp_path / "look")
        other = version_files(tmp_path / "other", b"other")
        place = ready.registry._folder / MODEL / "2"
        for file in stored.iterdir():
            (place / file.name).write_bytes((other / file.name).read_bytes())

    ready.check = swapped_meanwhile
    with pytest.raises(ReleaseError, match="not the one that was planned"):
        ready.promote(compared("1", "2"))
    assert ready.roles() == ready.journalled() == {"champion": "1", "challenger": "2"}
    assert ready.promote(compared("1", "2")).state == "DONE"
    assert ready.roles() == {"champion": "2", "previous": "1"}


def test_content_is_looked_at_once_and_compared_twice(ready: Town) -> None:
    looks: list[Path] = []
    ready.check = looks.append
    ready.promote(compared("1", "2"))
    assert len(looks) == 1


def test_a_preview_says_what_would_happen_and_changes_nothing(ready: Town) -> None:
    chain = ready.store.decisions.list()
    ready.registry.writes.clear()
    shown = ready.promote(compared("1", "2"), preview=True)
    assert shown.preview
    assert shown.steps == ("verify version 2", "@previous = 1", "@champion = 2", "@challenger cleared")
    with pytest.raises(StaleDecision):
        promote_as_it_is(
            ready.registry, ready.store, compared("3", "2"), preview=True,
            usecase=ready.usecase, actor="ann", now=NOW, check=harmless,
        )  # fmt: skip
    ready.promote(compared("1", "2"))
    done = ready.store.decisions.list()[len(chain) :]
    back = ready.rollback(preview=True)
    assert back.steps == ("verify version 1", "@champion = 1", "@previous cleared", "version 2 barred")
    assert ready.store.decisions.list() == [*chain, *done]
    assert ready.roles() == {"champion": "2", "previous": "1"}


def test_a_rollback_restores_the_previous_champion_and_bars_the_one_that_leaves(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    done = ready.rollback("it flags everybody")
    assert (done.from_version, done.to_version, done.state) == ("2", "1", "DONE")
    assert ready.roles() == ready.journalled() == {"champion": "1"}
    assert ready.store.decisions.barred(MODEL) == {"2": "it flags everybody"}


def test_a_second_rollback_is_refused_and_loops_nowhere(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    ready.rollback()
    with pytest.raises(NothingToRollBack, match="no @previous"):
        ready.rollback()
    assert ready.roles() == {"champion": "1"}


def test_a_way_back_that_leads_to_the_version_in_office_is_no_way_back(ready: Town) -> None:
    ready.registry.point(MODEL, "previous", "1")
    for preview in (True, False):
        with pytest.raises(NothingToRollBack, match="@previous is version 1, which is active already"):
            ready.rollback(preview=preview)
    assert ready.store.decisions.barred(MODEL) == {}
    assert ready.store.journal.recent(MODEL)[0].kind == "installation"


def test_a_hand_that_moves_the_champion_under_a_promotion_stops_it_before_its_commit(ready: Town) -> None:
    point = ready.registry.point

    def interfere(model: str, role: Any, version: str) -> None:
        point(model, role, version)
        if role == "previous":
            point(model, "champion", "3")

    ready.registry.point = interfere  # type: ignore[method-assign]
    with pytest.raises(ReleaseError, match="@champion is version 3, expected version 1: somebody moved it"):
        ready.promote(compared("1", "2"))
    ready.registry.point = point  # type: ignore[method-assign]
    assert ready.roles() == {"champion": "3", "challenger": "2"}
    assert ready.store.journal.unfinished(MODEL) == []


def test_without_a_previous_champion_or_a_reason_there_is_no_rollback(ready: Town) -> None:
    with pytest.raises(NothingToRollBack):
        ready.rollback()
    ready.promote(compared("1", "2"))
    with pytest.raises(ReleaseError, match="reason"):
        ready.rollback("  ")


def test_a_barred_version_needs_its_bar_lifted_before_it_returns(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    ready.rollback("too slow")
    ready.appoint("2")
    with pytest.raises(StaleDecision, match="undone since"):
        ready.promote(compared("1", "2"))
    fresh = compared("1", "2", as_of=LATER)
    with pytest.raises(ReleaseError, match="too slow"):
        ready.promote(fresh)
    with pytest.raises(ReleaseError, match="not barred"):
        lift_bar(ready.store, MODEL, "3", usecase="fraud", actor="ann", now=LATER, reason="fixed")
    lift_bar(ready.store, MODEL, "2", usecase="fraud", actor="ann", now=LATER, reason="fixed")
    assert ready.promote(fresh).to_version == "2"
    assert ready.rollback("again").to_version == "1"


def test_a_challenger_keeps_its_place_until_its_verdict(ready: Town) -> None:
    with pytest.raises(ReleaseError, match="under comparison"):
        ready.appoint("3")
    assert ready.appoint("2") is None
    ready.appoint("3", "candidate")
    ready.appoint("3", evict=True)
    assert ready.roles() == ready.journalled() == {"champion": "1", "challenger": "3", "candidate": "3"}
    (last,) = ready.store.decisions.list(limit=1)
    assert (last.payload["replaced"], last.payload["reason"]) == ("2", "it passed")


@pytest.mark.parametrize("role", ["challenger", "candidate"])
def test_the_version_in_office_is_not_its_own_challenger(ready: Town, role: str) -> None:
    with pytest.raises(ReleaseError, match="version 1 is active"):
        ready.appoint("1", role, evict=True)
    assert ready.roles() == ready.journalled() == {"champion": "1", "challenger": "2"}


def test_a_version_is_not_promoted_over_itself(ready: Town) -> None:
    ready.registry.point(MODEL, "challenger", "1")
    with pytest.raises(ReleaseError, match="compares version 1 with itself"):
        ready.promote(compared("1", "1"))
    assert ready.roles()["champion"] == "1"
    assert ready.store.journal.unfinished(MODEL) == []


def test_a_dismissed_challenger_leaves_its_role_on_the_record(ready: Town) -> None:
    names = {"usecase": fraud(), "actor": "ann", "now": LATER, "reason": "60 days without a verdict"}
    made = dismiss(ready.registry, ready.store, MODEL, "challenger", **names)  # type: ignore[arg-type]  # by name
    assert made is not None
    assert ready.roles() == ready.journalled() == {"champion": "1"}
    assert dismiss(ready.registry, ready.store, MODEL, "challenger", **names) is None  # type: ignore[arg-type]  # by name


def test_the_candidate_takes_its_turn_after_a_promotion(ready: Town) -> None:
    ready.appoint("3", "candidate")
    ready.promote(compared("1", "2"))
    assert ready.roles() == ready.journalled() == {"champion": "2", "previous": "1", "challenger": "3"}
    open_ = [one.plan for one in ready.store.comparisons.list("fraud") if one.closed_at is None]
    assert [(plan.champion, plan.challenger) for plan in open_] == [("dev-fraud/2", "dev-fraud/3")]
    assert ready.store.decisions.verify() == []


def test_a_turn_is_taken_once_and_only_where_nothing_is_under_comparison(ready: Town) -> None:
    named = {"usecase": fraud(), "actor": "ann", "now": LATER, "check": harmless}
    ready.appoint("3", "candidate")
    assert appoint_next_candidate(ready.registry, ready.store, MODEL, **named) is None  # type: ignore[arg-type]  # by name
    left = {"usecase": fraud(), "actor": "ann", "now": LATER, "reason": "by hand"}
    dismiss(ready.registry, ready.store, MODEL, "challenger", **left)  # type: ignore[arg-type]  # by name
    assert appoint_next_candidate(ready.registry, ready.store, MODEL, **named) is not None  # type: ignore[arg-type]  # by name
    assert ready.roles() == ready.journalled() == {"champion": "1", "challenger": "3"}
    assert appoint_next_candidate(ready.registry, ready.store, MODEL, **named) is None  # type: ignore[arg-type]  # by name


def test_nobody_is_evicted_without_saying_so(ready: Town) -> None:
    ready.appoint("3", "candidate")
    with pytest.raises(ReleaseError, match="--evict"):
        ready.appoint("2", "candidate")
    ready.appoint("3", "challenger", evict=True)
    assert ready.roles()["challenger"] == "3"


def test_every_version_with_a_role_is_approved_by_content(ready: Town, tmp_path: Path) -> None:
    ready.appoint("3", "candidate")
    known = ready.store.decisions.contracts(MODEL)
    assert len(known) == 3


def test_a_release_under_way_keeps_the_next_one_out(ready: Town) -> None:
    ready.store.journal.acquire(f"release:{MODEL}", "carl", 60)
    with pytest.raises(ReleaseError, match="carl"):
        ready.promote(compared("1", "2"))
    with pytest.raises(ReleaseError, match="carl"):
        ready.rollback() if "previous" in ready.roles() else ready.appoint("3", "candidate")


def test_replicas_are_waited_for_and_asked_what_they_serve(ready: Town) -> None:
    ready.store.serving.heartbeat("fraud", "a", MODEL, "1")
    assert ready.promote(compared("1", "2"), wait_seconds=0.05).acknowledged is False
    ready.store.serving.heartbeat("fraud", "a", MODEL, "1")
    assert ready.rollback(wait_seconds=5).acknowledged is True


def test_nothing_is_left_to_recover_after_an_orderly_release(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    assert recover(ready.registry, ready.store, MODEL, usecase=fraud(), actor="ann", now=LATER, check=harmless) == []


def test_closed_hours_hold_a_promotion_and_never_a_rollback(ready: Town) -> None:
    always = ready.usecase.promotion
    closed = always.model_copy(update={"freeze": ((NOW.date(), LATER.date()),)})
    ready.usecase = ready.usecase.model_copy(update={"promotion": closed})
    for preview in (True, False):
        with pytest.raises(PromotionHeld, match=r"frozen .* the next allowed time is"):
            ready.promote(compared("1", "2"), preview=preview)
    assert ready.roles() == {"champion": "1", "challenger": "2"}
    assert ready.store.journal.unfinished(MODEL) == []
    thawed = ready.usecase.model_copy(update={"promotion": always})
    assert ready.promote(compared("1", "2"), usecase=thawed).state == "DONE"
    assert ready.rollback().to_version == "1"


def test_a_time_that_the_caller_names_opens_nothing_while_events_are_live(ready: Town) -> None:
    today = datetime.now(UTC)
    frozen = {"freeze": (((today - timedelta(days=1)).date(), (today + timedelta(days=1)).date()),)}
    ready.usecase = ready.usecase.model_copy(update={"promotion": ready.usecase.promotion.model_copy(update=frozen)})
    ready.store.log.append([scored(1, event_time=to_us(today))])
    # One event of 2099, which an older log may hold, makes no replay of live events.
    ready.store.log.append([scored(2, event_time=to_us(datetime(2099, 1, 1, tzinfo=UTC)))])
    with pytest.raises(PromotionHeld, match="frozen"):
        ready.promote(compared("1", "2"))
    # Events of another time are a replay: there the named time is all there is.
    replayed = Town(ready.registry, memory_store(), ready.usecase)
    replayed.store.log.append([scored(1)])
    assert why_held_now(replayed.store, ready.usecase, NOW) is None
    replayed.store.close()


def test_a_bar_ends_with_a_comparison_that_is_opened_afterwards(ready: Town) -> None:
    def opened(version: str) -> None:
        payload = {"model": MODEL, "champion": f"{MODEL}/1", "challenger": f"{MODEL}/{version}"}
        ready.store.decisions.append("fraud", "comparison.opened", payload, "ann", NOW)

    opened("2")
    ready.promote(compared("1", "2"))
    ready.rollback("too slow")
    ready.appoint("2")
    opened("3")
    fresh = compared("1", "2", as_of=LATER)
    with pytest.raises(ReleaseError, match="until a new comparison"):
        ready.promote(fresh)
    opened("2")
    assert ready.promote(fresh).to_version == "2"


def test_without_a_registry_the_journals_previous_is_pinned_and_reconciled_later(ready: Town) -> None:
    ready.promote(compared("1", "2"))
    ready.registry.down = True
    done = ready.rollback("it flags everybody")
    assert (done.state, done.from_version, done.to_version) == ("PINNED", "2", "1")
    with pytest.raises(NothingToRollBack, match="pinned already"):
        ready.rollback()
    ready.registry.down = False
    assert ready.roles() == {"champion": "2", "previous": "1"}
    assert ready.journalled() == {"champion": "1"}
    recover(ready.registry, ready.store, MODEL, usecase=fraud(), actor="ann", now=LATER, check=harmless)
    assert ready.roles() == ready.journalled() == {"champion": "1"}
    assert ready.store.orders.standing(MODEL).pin is None
    assert set(ready.store.decisions.barred(MODEL)) == {"2"}
    assert ready.store.decisions.verify() == []


@pytest.mark.parametrize("writes", range(14))
def test_a_promotion_that_died_is_rolled_back_without_a_registry_too(ready: Town, writes: int) -> None:
    from tests.support.releases import Killed, Process, dies_after, time_passes

    process = Process(ready.registry, ready.store, dies_after(writes))
    with pytest.raises(Killed):
        promote(
            process.registry, process.store, compared("1", "2"), usecase=fraud(), actor="ann", now=NOW, check=harmless
        )
    time_passes(ready.store)
    ready.registry.down = True
    try:
        ready.rollback()
        pinned = True
    except NothingToRollBack:
        pinned = False
    ready.registry.down = False
    reconcile(ready.registry, ready.store, MODEL, usecase=fraud(), actor="ann", now=LATER)
    assert ready.roles() == ready.journalled()
    assert ready.store.journal.unfinished(MODEL) == []
    if pinned:
        assert ready.roles()["champion"] == "1"
    assert ready.store.decisions.verify() == []


def promotion_dies(town: Town, writes: int) -> None:
    """Version 1 came before version 2, and the promotion from 2 to 3 dies after so many writes."""
    from tests.support.releases import Killed, Process, dies_after, time_passes

    town.promote(compared("1", "2"))
    town.appoint("3")
    process = Process(town.registry, town.store, dies_after(writes))
    with suppress(Killed):
        promote(
            process.registry, process.store, compared("2", "3"), usecase=fraud(), actor="ann", now=NOW, check=harmless
        )
    time_passes(town.store)


@pytest.mark.parametrize("writes", range(16))
def test_a_rollback_takes_a_dead_promotion_back_and_returns_whoever_was_before(ready: Town, writes: int) -> None:
    promotion_dies(ready, writes)
    here = ready.roles()["champion"]
    back = {"2": "1", "3": "2"}[here]
    seen = ready.rollback("it flags everybody", preview=True)
    assert (seen.from_version, seen.to_version, seen.preview) == (here, back, True)
    # Minutes later: the promotion is still fresh enough to be resumed by anybody else.
    done = rollback(
        ready.registry, ready.store, MODEL, fraud(), "bob", "it flags everybody", NOW + timedelta(minutes=5),
        patience=0.0, check=harmless,
    )  # fmt: skip
    assert (done.from_version, done.to_version) == (here, back)
    assert ready.roles()["champion"] == back
    assert "previous" not in ready.roles()
    assert ready.roles() == ready.journalled()
    assert set(ready.store.decisions.barred(MODEL)) == {here}
    assert ready.store.journal.unfinished(MODEL) == []
    assert ready.store.decisions.verify() == []


@pytest.mark.parametrize("serving", [None, "2", "3"])
@pytest.mark.parametrize("writes", range(12))
def test_without_a_registry_a_rollback_pins_by_what_really_answers(
    ready: Town, writes: int, serving: str | None
) -> None:
    promotion_dies(ready, writes)
    left = ready.store.journal.unfinished(MODEL)
    # Only between the two writes of the registry the journal cannot tell whether the second one happened.
    unsure = bool(left) and left[0].state == "PREVIOUS_SET"
    by_journal = ready.journalled()["champion"]
    if serving is not None:
        ready.store.serving.heartbeat("fraud", "a", MODEL, serving)
    ready.registry.down = True
    done = ready.rollback()
    wanted = "3" if by_journal == "3" or (unsure and serving != "2") else "2"
    assert (done.from_version, done.to_version, done.state) == (wanted, {"2": "1", "3": "2"}[wanted], "PINNED")
    ready.registry.down = False
    reconcile(ready.registry, ready.store, MODEL, usecase=fraud(), actor="ann", now=LATER)
    assert ready.roles() == ready.journalled()
    assert ready.roles()["champion"] == done.to_version
    assert set(ready.store.decisions.barred(MODEL)) == {wanted}
    assert ready.store.decisions.verify() == []


@pytest.mark.parametrize("writes", range(1, 14))
def test_a_rollback_that_died_after_its_commit_is_pinned_without_a_registry(ready: Town, writes: int) -> None:
    from tests.support.releases import Killed, Process, dies_after, time_passes

    ready.promote(compared("1", "2"))
    process = Process(ready.registry, ready.store, dies_after(writes))
    with suppress(Killed):
        rollback(process.registry, process.store, MODEL, fraud(), "bob", "harm", LATER, patience=0.0, check=harmless)
    if not ready.store.journal.unfinished(MODEL):
        return  # it was over, or had not begun
    time_passes(ready.store)
    ready.registry.down = True
    done = ready.rollback()
    assert (done.from_version, done.to_version, done.state) == ("2", "1", "PINNED")
    ready.registry.down = False
    reconcile(ready.registry, ready.store, MODEL, usecase=fraud(), actor="ann", now=LATER)
    assert ready.roles() == ready.journalled() == {"champion": "1"}
    assert set(ready.store.decisions.barred(MODEL)) == {"2"}
    assert ready.store.journal.unfinished(MODEL) == []
