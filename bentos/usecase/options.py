"""The parts of a use case that say how training, evaluation and the simulator run."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bentos.usecase.declarations import Name
from monitoring.core.durations import Duration, parse_duration
from monitoring.policies import Count, Policy, Positive, Share


class SplitPolicy(Policy):
    """Time-ordered folds: train, then a gap as long as labels take, then calibration, then test."""

    train: Duration = Field(default=parse_duration("28d"), validate_default=True)
    """Length of the training fold."""
    calibration: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Length of the fold that fits the calibrator and the threshold."""
    test: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Length of the fold that the gates look at."""
    refit_calibration: Duration = Field(default=parse_duration("4d"), validate_default=True)
    """Length of the short fold after the refit that fits the registered model's calibrator and threshold."""


class TrainingPolicy(Policy):
    """Settings of XGBoost and of what follows it."""

    trees: Count = 100
    """Boosting rounds."""
    max_depth: Count = 3
    """Depth of a tree."""
    learning_rate: Positive = 0.1
    """Shrinkage of each tree."""
    tree_method: Literal["hist", "exact", "approx"] = "hist"
    """How splits are searched."""
    max_bin: Annotated[int, Field(ge=2)] = 1024
    """Bins of the hist method; few bins blur sharp limits."""
    base_score: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Score before the first tree."""
    min_child_weight: float = 1.0
    """Smallest sum of hessians in a leaf."""
    subsample: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of rows a tree sees."""
    colsample_bytree: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of features a tree sees."""
    calibration: Literal["auto", "platt", "isotonic", "none"] = "auto"
    """``auto`` is Platt below 1,000 positives and isotonic above; ``none`` takes the booster's own probability,
    which is steadier than a calibrator of few days. The calibration fold then only sets the threshold."""
    seed: int = 7
    """Seed of everything random in training."""


class Shift(Policy):
    """A declared change of the simulated world."""

    day: Annotated[int, Field(ge=0)]
    """Day of the simulation from which it holds."""
    kind: Literal["amount_scale", "fraud_scenario", "fraud_rate", "price_rise", "rival_offer"]
    """Cards: amounts scale by ``factor``; a new fraud scenario starts; compromises multiply by ``factor``. Customers:
    charges scale by ``factor``; a rival asks fibre customers on long contracts to leave."""
    factor: Positive = 1.0
    """Size of the change; for ``fraud_scenario`` how many cards a day are hit."""


SHIFTS_OF = {"cards": ("amount_scale", "fraud_scenario", "fraud_rate"), "telco": ("price_rise", "rival_offer")}
"""Which changes each simulated world knows."""


class SimulatorOptions(Policy):
    """The simulated worlds: card transactions, and telephone customers who may leave."""

    world: Literal["cards", "telco"] = "cards"
    """``cards``: transactions, a label for fraud. ``telco``: customers of each day, a label for those who leave."""
    customers_a_day: Count = 240
    """Customers of each day in ``telco``."""
    customers: Count = 1000
    """Card holders, uniform on a square of side 100."""
    terminals: Count = 2000
    """Terminals, uniform on the same square."""
    radius: Positive = 5.0
    """Distance within which a customer uses terminals."""
    start: date = date(2026, 1, 1)
    """First simulated day."""
    days: Count = 180
    """Simulated days."""
    seed: int = 7
    """Seed of the whole world."""
    shifts: tuple[Shift, ...] = ()
    """Declared changes."""

    @model_validator(mode="after")
    def _known_shifts(self) -> Self:
        for shift in self.shifts:
            if shift.kind not in SHIFTS_OF[self.world]:
                allowed = ", ".join(SHIFTS_OF[self.world])
                raise ValueError(f"the world {self.world!r} has no shift {shift.kind!r}; it has {allowed}")
        return self


SOURCE_KINDS: list[str] = ["simulator", "csv", "parquet", "sql", "log"]
"""Words of ``kind`` under ``[source]``; each has its row in :data:`flows.sources.SOURCES`."""


def _known_kind(kind: str) -> str:
    if kind not in SOURCE_KINDS:
        raise PydanticCustomError(
            "literal_error", "Input should be {expected}", {"expected": ", ".join(map(repr, SOURCE_KINDS))}
        )
    return kind


class SourceOptions(Policy):
    """Where flows read events, unless a parameter names another source."""

    kind: Annotated[str, AfterValidator(_known_kind)] = "simulator"
    """The adapter in ``flows/sources``."""
    path: str | None = None
    """File, folder or fsspec URL of ``csv`` and ``parquet``."""
    url: str | None = None
    """SQLAlchemy URL of ``sql``; ``${NAME}`` is replaced by the environment."""
    table: str | None = None
    """Table or view of ``sql``."""
    simulator: SimulatorOptions = SimulatorOptions()
    """Options of ``simulator``."""


class ExternalIncumbent(Policy):
    """A score column of the event that is champion before any model does."""

    column: Name
    """The column with the score in 0..1."""
    threshold: Share
    """Scores at or above it are flagged."""


class InterventionPolicy(Policy):
    """What happens to flagged events, and what that does to their labels."""

    blocks_flagged: bool = False
    """Whether a flagged event is blocked, so that nobody ever learns what it was; answers then say an action."""
    exploration_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the flagged events that is let through all the same, to learn from; each stands for the others."""
    salt: Annotated[str, Field(min_length=1, max_length=64)] = "explore-1"
    """Salt of the draw; another one draws other events."""
    max_weight: Annotated[float, Field(ge=1.0)] = 100.0
    """Most events that one let-through event stands for in a training; a smaller share is held at this weight."""

    @model_validator(mode="after")
    def _something_to_explore(self) -> Self:
        if self.exploration_share > 0.0 and not self.blocks_flagged:
            raise ValueError("exploration_share lets blocked events through, but blocks_flagged is false")
        return self


class PrivacyPolicy(Policy):
    """What is not kept as it came."""

    hashed: tuple[Name, ...] = ()
    """Columns of type ``identifier`` or ``string`` that are kept as keyed hashes only, for example the customer."""


class EvaluationPolicy(Policy):
    """How results are cut."""

    entity: Name | None = None
    """Entity of card precision, for example the customer."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Folds of the stratified cross-validation of data without a time."""
    top_k: Count = 100
    """Alerts a day of card precision."""
    segments: tuple[Name, ...] = ()
    """Columns by which disagreements of two models are counted; none takes the first three categories and booleans."""
    amount: Name | None = None
    """The column of money for the same; none takes the cost of a miss where that is a column."""


NoticeKind = Literal[
    "approval", "champion", "dependency", "drift", "emergency", "labels", "part", "promotion", "ramp", "retraining",
    "rollback", "run", "schedule",
]  # fmt: skip
"""What people are told of; docs/how-to/notices.md has a line for each."""


class NotifyRoute(Policy):
    """Who is told of which kinds of notices."""

    kinds: Annotated[tuple[NoticeKind, ...], Field(min_length=1)]
    """Kinds of notices, for example ``rollback``."""
    to: Name
    """Name of a target; its address holds a secret and stands in the variable ``INCUMBENT_NOTIFY_<NAME>`` or in the
    file ``notify.toml`` of the home. ``default`` is ``INCUMBENT_NOTIFY_URL``."""


class NotifyPolicy(Policy):
    """Who is told of what. Without routes everything goes to ``INCUMBENT_NOTIFY_URL``."""

    routes: tuple[NotifyRoute, ...] = ()
    """A notice goes along every route that names its kind; a kind that no route names goes to the default."""

    def targets(self, kind: str) -> tuple[str, ...]:
        """Names of the targets of a kind, in the order of the routes."""
        names = tuple(dict.fromkeys(route.to for route in self.routes if kind in route.kinds))
        return names or (DEFAULT_TARGET,)


DEFAULT_TARGET = "default"
"""Target of the kinds that no route names: ``INCUMBENT_NOTIFY_URL``."""
