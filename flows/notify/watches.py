"""What the notifier looks at again and again: one row of :data:`WATCHES` for each thing that may go wrong and last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from flows.errors import FlowError
from flows.notify.conditions import Condition, ConditionsView
from flows.notify.notice import Notice, span_text, time_text
from flows.steps.operations.dead_runs import close_dead_runs
from flows.workspace.prefect_answers import SETTLING, PrefectServer, PrefectUnreachable

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace
    from monitoring.exporter.dependencies import Dependency
    from monitoring.store import Run

Scope = Literal["usecase", "environment"]
_MINUTE: Final = timedelta(minutes=1)
LATE: Final = timedelta(minutes=10)
"""How long a due run may wait for a worker before people hear of it."""
_BEAT_GRACE_S: Final = 90.0


@dataclass(frozen=True)
class NoticeSource:
    """One thing that is looked at.

    Attributes:
        name: of the watch, in the store.
        look: what is wrong at machine time; none where it cannot be seen now, which says nothing.
        every: seconds between two looks.
        scope: whether it concerns the use case or all of them.
    """

    name: str
    look: Callable[[Workspace, datetime], ConditionsView | None]
    every: float
    scope: Scope = "usecase"


def _approvals(workspace: Workspace, now: datetime) -> ConditionsView:
    """Promotions that wait for a person, from the moment they are asked for."""
    from bentos.promotion.approval import list_requests, makers
    from bentos.registry.ports import ModelRef

    store, name = workspace.store, workspace.usecase.name
    conditions, endings = [], {}
    for request in list_requests(store, name, workspace.model):
        state = request.state(now)
        if state != "open":
            texts = {"granted": "It was approved", "rejected": "It was rejected"}
            endings[request.id] = texts.get(state, "Nobody answered in time; the next run of the promotion asks again")
            continue
        version = ModelRef.parse(request.verdict.challenger).version
        excluded = sorted({request.proposer, *makers(store, name, workspace.model, version)})
        text = (
            f"The promotion of version {version} waits for a person until {time_text(request.due)}: "
            f"{'; '.join(request.verdict.reasons) or 'the comparison says promote'}."
        )
        todo = (
            f"Anybody with a key of scope approve can answer, except {_join_names(excluded)}, who made or proposed it. "
            f"Run: incumbent approve {request.id} --code --key-file FILE, and type the code into the form"
            f"{'' if request.run_id else '; or answer at once with --answer approve'}."
        )
        link = _run_page(workspace, request.run_id)
        notice = _notice(workspace, "approval", f"Version {version} waits for approval", text, todo, link)
        conditions.append(Condition(request.id, notice))
    return ConditionsView(conditions, endings)


def _champion(workspace: Workspace, now: datetime) -> ConditionsView | None:
    """A champion by the journal that the registry does not know any more."""
    import json

    terms = workspace.store.decisions.terms(workspace.model, "champion")
    living = [
        replica
        for replica in workspace.store.serving.live(workspace.usecase.name, within_seconds=60.0)
        if replica.model == workspace.model
    ]
    connected = [replica for replica in living if json.loads(replica.detail).get("reachable")]
    if not connected or not terms:
        return None
    version = terms[-1][0]
    if version is None or any(replica.champion is not None for replica in connected):
        return ConditionsView(grace=_MINUTE)
    text = (
        f"The registry names no champion any more, although version {version} is in charge by the journal: its alias "
        "or the version itself was deleted. Answers go on from the verified copy."
    )
    todo = "incumbent status names the repair. Find out who changed the registry by hand."
    notice = _notice(workspace, "champion", "The champion has vanished from the registry", text, todo)
    return ConditionsView([Condition(version, notice, 2 * _MINUTE)], grace=_MINUTE)


def _labels(workspace: Workspace, now: datetime) -> ConditionsView:
    """Labels that come much later than they mature: verdicts then rest on old days."""
    from monitoring.exporter.table_metrics import label_samples

    with workspace.store.database.read() as connection:
        lags = [s.value for s in label_samples(connection, workspace.usecase.name) if s.name == "label_lag_seconds"]
    limit = 2 * workspace.usecase.label.matures_after.total_seconds()
    if not lags or lags[0] <= limit:
        return ConditionsView(grace=_MINUTE)
    text = (
        f"The newest label belongs to an event that is {span_text(lags[0])} older than the newest answered one; labels "
        f"should be complete after {span_text(limit / 2)}. Comparisons and drift rest on old days."
    )
    todo = "Look whether the import of labels runs and its source delivers: incumbent labels --status."
    notice = _notice(workspace, "labels", "Labels are late", text, todo)
    return ConditionsView([Condition("lag", notice, timedelta(hours=1))], grace=_MINUTE)


def _runs(workspace: Workspace, now: datetime) -> ConditionsView:
    """Flows whose last finished run failed or was killed."""
    close_dead_runs(workspace.store, workspace.usecase.name, now)
    newest: dict[str, Run] = {}
    for run in workspace.store.runs.last_ended(workspace.usecase.name):
        if run.flow not in newest or _ended(run) > _ended(newest[run.flow]):
            newest[run.flow] = run
    failed_runs = [run for run in newest.values() if run.state in ("failed", "killed")]
    endings = {flow: f"The {flow} ran to its end again" for flow in newest}
    return ConditionsView([Condition(run.flow, _run_notice(workspace, run)) for run in failed_runs], endings)


def _ended(run: Run) -> datetime:
    return run.ended_at or run.started_at


def _run_notice(workspace: Workspace, run: Run) -> Notice:
    link = _run_page(workspace, run.run_id if "-" in run.run_id else "")
    flow, began = run.flow, time_text(run.started_at)
    if run.message.startswith("killed"):
        text = f"The {flow} that began at {began} was ended from outside, most often for lack of memory."
        todo = f"Look at the machine's memory at that time, then start it again: {_command(flow)}."
        return _notice(workspace, "run", f"The {flow} was killed", text, todo, link)
    text = f"The {flow} that began at {began} failed: {_safe_reason(run.message)}."
    todo = f"Look at the run, mend the cause, run it again: {_command(flow)}."
    return _notice(workspace, "run", f"The {flow} failed", text, todo, link)


def _safe_reason(message: str) -> str:
    """The first line of an error of our own, whose text holds no data; of any other nothing."""
    code, colon, _ = message.partition(": ")
    codes = {error_class.code for error_class in _subclasses(FlowError)}
    return message.splitlines()[0].rstrip(".") if colon and code in codes else "its log says why"


def _subclasses(base: type[FlowError]) -> Iterator[type[FlowError]]:
    yield base
    for subclass in base.__subclasses__():
        yield from _subclasses(subclass)


_COMMANDS: Final = {
    "training": "train", "tuning": "tune", "evaluation": "evaluate", "scoring": "score", "retraining": "retrain",
    "comparison": "compare", "promotion": "promote",
}  # fmt: skip


def _command(flow: str) -> str:
    return f"incumbent {_COMMANDS.get(flow, flow)}"


def _schedules(workspace: Workspace, now: datetime) -> ConditionsView | None:
    """Flows whose schedule is on and that did not run when they were due."""
    server = PrefectServer.from_environment()
    if server is None:
        return None
    prefix = workspace.settings.deployment_name(workspace.usecase.name, "")
    conditions = []
    try:
        with server:
            for deployment in server.deployments(prefix):
                if deployment.active and (problem := _missed_run(server, deployment.id, deployment.changed_at, now)):
                    text = f"The flow {deployment.flow} is scheduled, but {problem}."
                    todo = "Look whether the worker and the Prefect server live: incumbent status --deep."
                    link = _prefect_page(workspace, f"deployments/deployment/{deployment.id}")
                    notice = _notice(workspace, "schedule", f"The {deployment.flow} did not run", text, todo, link)
                    conditions.append(Condition(deployment.flow, notice, _MINUTE))
    except PrefectUnreachable:
        return None  # told as a dependency that is away
    return ConditionsView(conditions, grace=_MINUTE)


def _missed_run(server: PrefectServer, deployment: str, changed_at: datetime, now: datetime) -> str:
    if unstarted := server.unstarted(deployment, now - LATE):
        return f"the run that was due at {time_text(unstarted[0])} has not begun"
    if (
        now - changed_at > SETTLING
        and not server.planned(deployment, now)
        and not server.due(deployment, now - SETTLING, now)
    ):
        return "no further run is planned: the server's scheduler stands still"
    return ""


def _worker(workspace: Workspace, now: datetime) -> ConditionsView | None:
    """A work pool whose workers have all gone quiet."""
    from flows.stack.parts import POOL

    server = PrefectServer.from_environment()
    if server is None:
        return None
    try:
        with server:
            workers = server.workers(POOL)
    except PrefectUnreachable:
        return None
    if not workers or any(status == "ONLINE" for _, status, _ in workers):
        return ConditionsView(grace=_MINUTE)
    last = max((seen_at for _, _, seen_at in workers if seen_at is not None), default=None)
    when = f" since {time_text(last)}" if last else ""
    text = f"The Prefect worker has given no sign of life{when}: nothing that is scheduled or asked for runs."
    todo = "Start it again (incumbent up, or the container prefect-worker) and look at its log."
    notice = _notice(
        workspace,
        "part",
        "The worker is dead",
        text,
        todo,
        _prefect_page(workspace, f"work-pools/work-pool/{POOL}"),
        everywhere=True,
    )
    return ConditionsView([Condition("worker", notice, _MINUTE)], grace=_MINUTE)


def _scribe(workspace: Workspace, now: datetime) -> ConditionsView | None:
    """A scribe that gives no sign of life: the log stands still, nobody watches a new champion."""
    beat = workspace.store.heartbeats.seen(workspace.usecase.name).get("scribe")
    if beat is None:
        return None
    if beat[1] <= _BEAT_GRACE_S:
        return ConditionsView(grace=_MINUTE)
    text = (
        f"The scribe has given no sign of life since {time_text(beat[0])}: answers go on, but they wait in the spool, "
        "and nobody watches a new champion or ends an emergency."
    )
    todo = "Start it again (incumbent up, or the container scribe) and look at its log."
    notice = _notice(workspace, "part", "The scribe is dead", text, todo)
    return ConditionsView([Condition("scribe", notice)], grace=timedelta(seconds=30))


def _parts(workspace: Workspace, now: datetime) -> ConditionsView | None:
    """Parts of the stack on this machine that are not up, and a stack whose supervisor is gone."""
    from flows.stack.state_file import read_state
    from flows.workspace.installation import Home

    state = read_state(Home(workspace.settings).addresses)
    if state is None:
        return None
    conditions = []
    for name, part in state.parts.items():
        if part.state == "given_up" or (part.ended and not part.alive and part.state != "done"):
            restart_note = "nothing starts it again" if part.state == "given_up" else "it is started again and again"
            text = f"The part {name} of the stack is dead: {part.ended or 'it ended'}; {restart_note}."
            todo = f"Look at its log, {part.log}, mend the cause, then: incumbent up."
            notice = _notice(workspace, "part", f"The {name} is dead", text, todo, everywhere=True)
            conditions.append(Condition(name, notice, timedelta(0) if part.state == "given_up" else _MINUTE))
    if not state.supervisor.alive:
        text = "The stack's supervisor is gone: its parts go on, but nothing starts one again that ends."
        notice = _notice(workspace, "part", "Nobody supervises the stack", text, "Run: incumbent up.", everywhere=True)
        conditions.append(Condition("supervisor", notice, _MINUTE))
    return ConditionsView(conditions, {name: f"The {name} runs again" for name in state.parts}, _MINUTE)


def _dependencies(workspace: Workspace, now: datetime) -> ConditionsView:
    """MLflow, Prefect and Redis; the database itself is looked after without the store (:mod:`flows.notify.outage`)."""
    down = [
        dependency
        for dependency in probe_dependencies(workspace)
        if not dependency.up and dependency.name != "database"
    ]
    conditions = [
        Condition(dependency.name, dependency_notice(workspace, dependency), 2 * _MINUTE) for dependency in down
    ]
    return ConditionsView(conditions, {name: f"{_upper(text)} answers again" for name, text in _NAMES.items()}, _MINUTE)


def probe_dependencies(workspace: Workspace) -> list[Dependency]:
    """Every service that the settings name."""
    from monitoring.exporter.dependencies import probe_all

    settings = workspace.settings
    return probe_all(
        database_url=settings.log_url,
        mlflow_uri=settings.registry_uri,
        prefect_url=os.environ.get("PREFECT_API_URL", ""),
        redis_url=settings.redis_url,
    )


_MEANS: Final = {
    "mlflow": "the champion goes on answering; no model can be trained, promoted or rolled back in the registry",
    "prefect": "nothing that is scheduled runs, and no flow can be started or approved; answers go on",
    "redis": "replicas cannot share their windows, so events that need them are not answered",
    "database": "answers go on and wait in the spool; nothing can be decided, promoted or rolled back",
}
_NAMES: Final = {"mlflow": "MLflow", "prefect": "Prefect", "redis": "Redis", "database": "the database"}


def dependency_notice(workspace: Workspace, dependency: Dependency) -> Notice:
    """What people are told of a service that does not answer."""
    name = _NAMES[dependency.name]
    upper = _upper(name)
    text = f"{upper} does not answer: {dependency.problem}. Meanwhile {_MEANS[dependency.name]}."
    todo = f"Look whether {name} runs and is reachable from here."
    return _notice(workspace, "dependency", f"{upper} is away", text, todo, everywhere=True)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


WATCHES: Final = (
    NoticeSource("approvals", _approvals, 5.0),
    NoticeSource("champion", _champion, 15.0),
    NoticeSource("runs", _runs, 15.0),
    NoticeSource("scribe", _scribe, 15.0),
    NoticeSource("labels", _labels, 300.0),
    NoticeSource("schedules", _schedules, 60.0),
    NoticeSource("parts", _parts, 10.0, "environment"),
    NoticeSource("worker", _worker, 30.0, "environment"),
    NoticeSource("dependencies", _dependencies, 30.0, "environment"),
)


def _notice(
    workspace: Workspace, kind: str, title: str, text: str, todo: str, link: str = "", *, everywhere: bool = False
) -> Notice:
    scope = (
        (workspace.settings.env, "", "")
        if everywhere
        else (workspace.settings.env, workspace.usecase.name, workspace.model)
    )
    from flows.workspace.clock import machine_now

    return Notice(kind, *scope, "", text, machine_now().isoformat(), title=title, todo=todo, link=link)


def _prefect_page(workspace: Workspace, path: str) -> str:
    base = workspace.settings.prefect_ui_url or os.environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix(
        "/api"
    )
    return f"{base.rstrip('/')}/{path}" if base else ""


def _run_page(workspace: Workspace, run_id: str) -> str:
    return _prefect_page(workspace, f"runs/flow-run/{run_id}") if run_id else ""


def _join_names(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def due_watches(last_looks: dict[str, float], moment: float) -> Iterator[NoticeSource]:
    """The watches whose time has come, by a steady clock in seconds; ``last_looks`` is brought up to date."""
    for watch in WATCHES:
        if moment - last_looks.get(watch.name, float("-inf")) >= watch.every:
            last_looks[watch.name] = moment
            yield watch
