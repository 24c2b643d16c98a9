"""Training: read a history, fit and judge a model, give it the role it has earned."""

from __future__ import annotations

from datetime import datetime

from flows.distributed.select_engine import prepared_training
from flows.runs.operation import operation
from flows.runs.parameters import AS_SET, DECLARED, EngineChoice, SourceChoice
from flows.runs.provenance import note_maker
from flows.runs.run_record import recorded
from flows.steps.data.split import retraining_case
from flows.steps.training.role_assignment import seat
from flows.views.reports import training_report, training_view
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import open_house


@operation("train {model} until {time}", time="until")
def training(
    usecase: str | None = None,
    until: datetime | None = None,
    source: SourceChoice = DECLARED,
    reason: str = "",
    engine: EngineChoice = AS_SET,
) -> Outcome:
    """Train a model on matured events, judge it, and give it the role it has earned.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        until: Business time of the training; nothing later is read. Empty takes the end of the source.
        source: Where events are read. Empty takes what the use case declares.
        reason: Why a model is trained, for the record.
        engine: Where the work is done. Empty takes what the settings say.
    """
    house = open_house(usecase)
    with recorded(house, "training", until) as run:
        again = "champion" in house.registry.roles(house.model)
        case = retraining_case(house.usecase) if again else house.usecase
        work = prepared_training(house, case, source, until, engine)
        as_of = run.set_as_of(work.as_of)
        trained = work.train()
        verdict, data = trained.verdict, trained.snapshot.digest
        note_maker(house, "training", trained.ref, verdict, trained.run_id, data, as_of, reason)
        seated = seat(
            house.usecase, house.settings, house.registry, house.store, trained.ref, verdict,
            actor=house.actor, now=as_of,
        )  # fmt: skip
        report = training_report(trained, seated, reason)
        run.keep("training", verdict.outcome, report, model=verdict.champion, challenger=verdict.challenger)
        return run.conclude(training_view(trained, seated, as_of))
