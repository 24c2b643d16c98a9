"""Every pipeline in this process on a small world: real MLflow store, real database, no Prefect server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from bentos.errors import NothingToRollBack, ReleaseError
from flows.comparison import comparison
from flows.drift import drift
from flows.drills.load.temporary_postgresql import temporary_postgresql
from flows.errors import FlowRefused, NoData, OneClass, SchemaProblem
from flows.evaluation import evaluation
from flows.labels import labels
from flows.promotion import promotion
from flows.retraining import retraining
from flows.rollback import rollback
from flows.runs.parameters import LOG, SourceChoice
from flows.runs.run_record import call
from flows.scoring import scoring
from flows.steps.drift.matured_answers import read_matured_answers
from flows.steps.drift.recent_cost import daily_cost
from flows.steps.reports import dossier
from flows.steps.reports.month import build_month_report
from flows.steps.reports.overview import build_overview, text_of, write_overview
from flows.steps.reports.status import business_now, model_status
from flows.steps.tracking.mlflow_run import tracker_of
from flows.training import training
from monitoring.core.verdict import Verdict
from tests.support.processes.postgresql import programs
from tests.support.worlds import DAY, World, small_world

_POSTGRESQL = pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.needs_postgresql])


@pytest.fixture(scope="module", params=["sqlite", _POSTGRESQL])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the log lies; empty is SQLite in the world's home."""
    if request.param == "sqlite":
        yield ""
        return
    programs()
    with temporary_postgresql() as server:
        yield server.url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[World]:
    """A champion trained through the flow, six live days, and a challenger that alarms more readily."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCUMBENT_DATABASE_URL", database_url)
        yield from _world(folder)


def _world(folder: Path) -> Iterator[World]:
    with small_world(folder) as made:
        outcome = call(training, usecase=made.reference, source=LOG, until=made.live_from, reason="a test")
        assert outcome.status == "done", outcome.summary
        made.challenger(0.004, folder / "challenger")
        made.live(0, 6, shadow="2")
        yield made


def run_of(world: World, flow: str) -> tuple[str, str]:
    run = world.workspace.store.runs.latest(world.workspace.usecase.name, flow)
    assert run is not None
    return run.state, run.message


def test_the_first_model_that_passes_takes_office_and_the_run_is_recorded(world: World) -> None:
    assert world.workspace.champion().version == "1"
    report = world.workspace.store.reports.latest("fraud", "training")
    assert report is not None
    assert report.payload["role"] == "champion"
    assert report.payload["reason"] == "a test"


def test_an_empty_window_fails_with_no_data(world: World) -> None:
    with pytest.raises(NoData, match=r"^no_data: "):
        call(training, usecase=world.reference, source=LOG, until=world.live_from - 400 * DAY)
    state, message = run_of(world, "training")
    assert state == "failed"
    assert message.startswith("no_data: ")


def table(world: World, **changes: object) -> pd.DataFrame:
    from flows.sources import open_source
    from flows.sources.labels import as_table

    source = open_source(world.workspace.usecase, "simulator")
    from monitoring.core.calendar import TimeWindow

    read = source.read(TimeWindow(world.live_from - 30 * DAY, world.live_from))
    return as_table(read, world.workspace.usecase).assign(**changes)


def test_one_class_fails_with_one_class(world: World, tmp_path: Path) -> None:
    table(world, is_fraud=0).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(OneClass, match=r"^one_class: "):
        call(
            training,
            usecase=world.reference,
            source=SourceChoice(kind="parquet", path=str(tmp_path / "t.parquet")),
            until=world.live_from,
        )


def test_a_missing_column_fails_with_schema(world: World, tmp_path: Path) -> None:
    table(world).drop(columns="amount").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SchemaProblem, match=r"^schema: .*amount"):
        call(training, usecase=world.reference, source=SourceChoice(kind="parquet", path=str(tmp_path / "t.parquet")))


def test_a_calm_world_raises_no_drift_and_its_features_agree_bit_by_bit(world: World) -> None:
    outcome = call(drift, usecase=world.reference, as_of=world.day(3), html="never")
    assert outcome.status == "done"
    assert outcome.data["outcome"] == "none"
    assert outcome.data["skew"]["share"] == 0.0
    assert outcome.data["model"] == "dev-fraud/1"


def test_drift_on_too_few_rows_completes_without_a_band(world: World) -> None:
    outcome = call(drift, usecase=world.reference, as_of=world.day(60), html="never", skew=False)
    assert outcome.status == "insufficient_data"
    assert outcome.data["outcome"] == "insufficient_data"
    assert outcome.data["alarm"]["band"] is None
    assert run_of(world, "drift")[0] == "completed"


def test_drift_of_a_past_day_looks_at_nothing_later(world: World) -> None:
    early = call(drift, usecase=world.reference, as_of=world.day(1), html="never", skew=False)
    assert [r["rows"] for r in early.data["reports"]][:2] == [0, 0]
    assert early.data["performance"] is None


def test_a_version_is_judged_again_without_changing_a_role(world: World) -> None:
    before = world.workspace.registry.roles(world.workspace.model)
    outcome = call(evaluation, usecase=world.reference, version="1", as_of=world.day(1))
    assert outcome.status == "done"
    assert world.workspace.registry.roles(world.workspace.model) == before


def test_events_are_scored_in_bulk_as_they_were_online(world: World) -> None:
    outcome = call(scoring, usecase=world.reference, end=world.day(2))
    listed = pd.read_parquet(outcome.data["files"][0]).set_index("transaction_id")["score"]
    from monitoring.core.calendar import TimeWindow

    answers = world.workspace.store.log.answers("fraud", TimeWindow(world.day(1), world.day(2))).set_index("event_id")
    assert listed.sort_index().tolist() == answers["score"].sort_index().tolist()


def test_labels_from_a_file_are_stored_once(world: World, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "event_id,label,observed_at,source\n"
        "unknown-1,1,2026-03-01T00:00:00Z,analyst\n"
        "unknown-2,2,2026-03-01T00:00:00Z,analyst\n"
        "unknown-3,1,2026-03-01T00:00:00Z,neighbour\n"
    )
    first = call(labels, usecase=world.reference, path=str(file))
    assert (first.data["stored"], first.data["parked"]) == (1, 1)
    assert first.data["refused"] == {"bad_label": 1, "unknown_source": 1} or sum(first.data["refused"].values()) == 2
    again = call(labels, usecase=world.reference, path=str(file))
    assert (again.data["stored"], again.data["duplicates"]) == (0, 1)


def test_an_empty_inbox_is_no_mistake_but_a_missing_file_is(world: World, tmp_path: Path) -> None:
    assert call(labels, usecase=world.reference).data["files"] == 0
    with pytest.raises(Exception, match="no such file"):
        call(labels, usecase=world.reference, path=str(tmp_path / "absent.csv"))


def test_retraining_waits_while_a_challenger_is_under_comparison(world: World) -> None:
    outcome = call(retraining, usecase=world.reference, as_of=world.day(40))
    assert outcome.data["outcome"] == "blocked"
    assert outcome.data["training"] is None
    assert "waits for its comparison" in outcome.summary


def test_a_comparison_before_any_day_has_matured_is_insufficient(world: World) -> None:
    outcome = call(comparison, usecase=world.reference, as_of=world.day(1))
    assert outcome.status == "insufficient_data"
    assert outcome.data["verdict"]["outcome"] == "keep_watching"


def test_a_promotion_without_a_promoting_verdict_is_refused(world: World) -> None:
    call(comparison, usecase=world.reference, as_of=world.day(1))
    with pytest.raises(ReleaseError, match="promotes nobody"):
        call(promotion, usecase=world.reference, as_of=world.day(1), preview=False, reason="a test")


def test_a_change_of_office_needs_a_reason(world: World) -> None:
    for flow in (promotion, rollback):
        with pytest.raises(FlowRefused, match="reason is required"):
            call(flow, usecase=world.reference, preview=False, reason=" ")


def test_a_rollback_without_a_previous_champion_is_a_clear_error(world: World) -> None:
    with pytest.raises(NothingToRollBack, match="no @previous"):
        call(rollback, usecase=world.reference, as_of=world.day(1))


def test_a_comparison_keeps_its_verdict_and_the_exact_rows_behind_it(world: World) -> None:
    outcome = call(comparison, usecase=world.reference, as_of=world.day(8))
    assert outcome.data["result"]["days"] == 6
    assert outcome.data["result"]["recall_challenger"]["value"] >= outcome.data["result"]["recall_champion"]["value"]
    kept = world.workspace.evidence.load(outcome.data["evidence_snapshot"])
    assert kept.ref.rows == outcome.data["result"]["rows"]
    assert outcome.data["plan_hash"] == outcome.data["verdict"]["plan_hash"]
    assert "result.appendix" in outcome.data["not_used_in_the_decision"]
    assert {name for name, _ in outcome.figures} & {"plan", "matured days"} == {"plan", "matured days"}
    assert any("McNemar" in name for name, _ in outcome.appendix)
    again = call(comparison, usecase=world.reference, as_of=world.day(8))
    assert again.data["verdict"] == outcome.data["verdict"]
    assert again.data["evidence_snapshot"] == outcome.data["evidence_snapshot"]


def test_the_page_of_a_verdict_is_a_dossier_and_can_be_made_again_from_what_is_stored(world: World) -> None:
    outcome = call(comparison, usecase=world.reference, as_of=world.day(8), html="always")
    assert outcome.report is not None
    html = outcome.report.read_text(encoding="utf-8")
    champion = world.workspace.registry.describe(world.workspace.champion())
    assert champion.tags["data_digest"][:16] in html
    assert outcome.data["plan_hash"] in html
    assert "@champion since" in html
    assert outcome.data["capacity"]["days"] == 6
    verdict = Verdict.from_json(outcome.data["verdict"])
    stored = dossier.write_promotion_page(world.workspace, verdict, world.day(8))
    assert stored == outcome.report
    assert stored.read_text(encoding="utf-8") == html, "nothing was decided since"
    assert dossier.write_promotion_page(world.workspace, replace(verdict, reasons=("another",)), world.day(8)) is None


def test_a_dossier_lies_beside_the_run_that_trained_the_challenger(world: World, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<p>a dossier</p>", encoding="utf-8")
    champion = world.workspace.champion()
    dossier.keep_with_run(world.workspace, champion.label, path)
    run_id = world.workspace.registry.describe(champion).run_id
    assert run_id is not None
    kept = tracker_of(world.workspace.registry).fetch(run_id, "dossier-page.html", tmp_path / "back")
    assert kept.read_text(encoding="utf-8") == "<p>a dossier</p>"


def test_standing_names_roles_log_and_reports(world: World) -> None:
    found = model_status(
        world.workspace.store, world.workspace.registry, world.workspace.usecase, world.workspace.model, world.day(9)
    )
    assert found.roles["champion"]["version"] == "1"
    assert found.roles["challenger"]["since"] == world.live_from
    assert found.log["events"] > 0
    assert any(name == "@champion" for name, _ in found.lines())


def test_the_morning_page_says_who_is_in_office_by_which_decision_and_what_to_do_next(
    world: World, tmp_path: Path
) -> None:
    call(drift, usecase=world.reference, as_of=world.day(8), html="never", skew=False)
    call(comparison, usecase=world.reference, as_of=world.day(8), html="never")
    found = build_overview(world.workspace, world.day(8))
    lines = {line.name: line for line in found.lines}
    assert re.fullmatch(
        r"version \d+ since [\d-]+ \d\d:\d\d, installed by \w+ \(decision \d+\)", lines["@champion"].text
    )
    assert "rollback" in lines["@champion"].next
    assert "6 matured days" in lines["comparison"].text
    assert lines["comparison"].next
    assert "recall" in lines["performance"].text
    assert "have matured; the newest label is of" in lines["labels"].text
    assert "open of 100 a day, expected loss" in lines["alerts today"].text
    assert lines["replicas"].next
    assert [a.expected_loss for a in found.alerts] == sorted((a.expected_loss for a in found.alerts), reverse=True)
    assert "what to do next" in write_overview(tmp_path / "status.html", found).read_text(encoding="utf-8")
    folded = text_of(found, 60)
    assert max(len(line) for line in folded.splitlines()) <= 60
    assert json.dumps(found.to_json(), default=str)


def test_a_past_day_has_the_roles_of_that_day_and_nothing_of_today(world: World) -> None:
    workspace = world.workspace
    before = workspace.store.decisions.terms(workspace.model, "challenger")[0][1] - timedelta(hours=1)
    found = build_overview(workspace, before)
    assert found.standing.past
    assert "challenger" not in found.standing.roles
    assert "challenger" in workspace.registry.look(workspace.model).roles, "it is today"
    lines = {line.name: line for line in found.lines}
    assert [line.name for line in found.lines if line.next] == ["now"]
    assert "left out" in lines["now"].text
    assert {"replicas", "alerts today", "routing"}.isdisjoint(lines)
    assert found.alerts == ()
    logged = workspace.store.log.span(workspace.usecase.name, before=before)
    assert (logged[0] if logged else None) == found.standing.log.get("events")
    assert not build_overview(workspace, world.day(9)).standing.past
    assert not build_overview(
        workspace, business_now(workspace.store, workspace.usecase, workspace.model, before)
    ).standing.past


def test_a_month_is_reported_final_and_provisional_apart(world: World) -> None:
    usecase, store = world.workspace.usecase, world.workspace.store
    month = usecase.calendar.day_of(world.day(1))
    found = build_month_report(store, usecase, month, world.day(6))
    assert found.final is not None
    assert found.provisional is not None
    assert found.final.amount is not None
    told = {name: (final, young) for name, final, young in found.rows()}
    assert told["days"][1] == str(found.provisional.days)
    assert 0.0 < found.final.fraud_bp < 10_000.0  # type: ignore[operator]  # there was an amount
    with pytest.raises(NoData, match="has not begun"):
        build_month_report(store, usecase, month, world.day(-200))
    with pytest.raises(NoData, match="no event of fraud was answered"):
        build_month_report(store, usecase, month.replace(year=month.year + 1), world.day(2000))


def test_alerts_of_young_days_are_counted_where_an_absent_label_means_nothing(world: World) -> None:
    usecase, store = world.workspace.usecase, world.workspace.store
    negative = daily_cost(usecase, read_matured_answers(store, usecase, world.day(6)))["days"]
    label = usecase.label.model_copy(update={"absent_after_maturity": "unknown"})
    unsure = usecase.model_copy(update={"label": label})
    unknown = daily_cost(unsure, read_matured_answers(store, unsure, world.day(6)))["days"]
    assert [(day["day"], day["alerts"], day["rows"]) for day in unknown] == [
        (day["day"], day["alerts"], day["rows"]) for day in negative
    ]
    assert {day["state"] for day in negative} == {"final", "provisional"}
    assert sum(day["cost"] for day in unknown) < sum(day["cost"] for day in negative), "an unknown alert costs nothing"


def test_the_drift_check_holds_what_labels_say_and_the_estimate_of_what_they_do_not(world: World) -> None:
    early = call(drift, usecase=world.reference, as_of=world.day(3), html="never", skew=False).data
    assert early["estimate"]["kind"] == "estimate"
    young = [day["day"] for day in early["estimate"]["days"]]
    assert young == [f"{world.day(n):%Y-%m-%d}" for n in (1, 2)], "labels mature after two days"
    found = call(drift, usecase=world.reference, as_of=world.day(5), html="never", skew=False).data
    aftermath = found["aftermath"]
    assert [day["group"] for day in aftermath["daily"]] == [f"{world.day(n):%Y-%m-%d}" for n in range(3)]
    figures = aftermath["daily"][0]["performance"]["metrics"]
    assert {"recall", "precision", "average_precision", "cost", "calibration_ratio"} <= set(figures)
    assert sum(day["performance"]["rows"] for day in aftermath["daily"]) == found["performance"]["rows"]
    checked = {one["day"]: one for one in aftermath["checked"]}
    assert [checked[day]["stored"] for day in young] == [True, True], "the check of two days before kept them"
    assert checked[young[0]]["recall"] == early["estimate"]["days"][0]["recall"]
    assert checked[young[0]]["true_recall"] == aftermath["daily"][1]["performance"]["metrics"]["recall"]
    assert aftermath["prior"]["rows"] == found["performance"]["rows"]
    assert 0.0 <= found["estimate"]["prior"] <= 1.0
    assert aftermath["concept"] is None, "three matured days are too few to compare"
    assert {one["detector"] for one in aftermath["streams"]} == {"page_hinkley", "ddm", "adwin"}
    assert 0.5 < found["attribution"]["ndcg"] <= 1.0
    assert all(feature["importance"] is not None for feature in found["reports"][-1]["features"])


def test_the_drift_check_says_how_good_the_data_are(world: World) -> None:
    quality = call(drift, usecase=world.reference, as_of=world.day(4), html="never", skew=False).data["quality"]
    assert quality["freshness"]["status"] == "fresh"
    assert quality["volume"]["status"] == "usual"
    assert quality["volume"]["day"] == f"{world.day(3):%Y-%m-%d}"
    assert quality["quarantine"] == {}
    late = call(drift, usecase=world.reference, as_of=world.day(50), html="never", skew=False).data["quality"]
    assert late["freshness"]["status"] == "unknown"
    assert late["volume"]["status"] == "unknown"


def test_every_drift_check_writes_a_page_with_all_that_was_found(world: World) -> None:
    outcome = call(drift, usecase=world.reference, as_of=world.day(6))
    assert outcome.report is not None
    html = outcome.report.read_text(encoding="utf-8")
    parts = ("Data quality", "Matured performance", "Estimate of days without labels", "Estimate against truth")
    parts += ("Attribution drift", "Feature skew", "Change detectors on matured errors", "By ")
    for part in (*parts, "Classification quality", "usual for its weekday"):
        assert part in html, part
    assert "(estimate)" in html
    named = dict(outcome.figures)
    assert named["freshness"] == "fresh"
    assert any("estimate (CBPE)" in name for name in named)
    stored = world.workspace.store.reports.latest("fraud", "drift", as_of=world.day(6))
    assert stored is not None
    assert stored.html == str(outcome.report)
    empty = call(drift, usecase=world.reference, as_of=world.day(60), skew=False)
    assert empty.report is not None, "too few rows have a page too"
    assert "Insufficient data: 0 rows" in empty.report.read_text(encoding="utf-8")
