"""Errors of the flows room, named by the state they report.

    FlowError                      code "flow"
    ├── SourceError                "source"               reading events failed
    │   ├── NoData                 "no_data"              the window holds no usable event
    │   ├── SchemaProblem          "schema"               the table does not fit the use case
    │   ├── SourceOptionsError     "source_options"       a path, URL or table is missing or wrong
    │   └── SourceUnavailable      "source_unavailable"   a file or database cannot be read (retry)
    ├── SnapshotError              "snapshot"             stored training data cannot be used
    │   ├── SnapshotMissing        "snapshot_missing"     no snapshot has that digest
    │   └── SnapshotCorrupt        "snapshot_corrupt"     the content differs from its digest
    ├── TrainingError              "training"             a model cannot be made
    │   ├── OneClass               "one_class"            a fold holds one class only
    │   └── TooFewRows             "too_few_rows"         a fold or the history is too short
    ├── EvaluationError            "evaluation"           a candidate cannot be judged
    ├── EngineError                "engine"               the cluster cannot do the work
    │   ├── EngineMissing          "engine_missing"       the extra that drives it is not installed
    │   ├── ClusterUnreachable     "cluster_unreachable"  scheduler, workers or the shared folder are away
    │   └── ClusterFailed          "cluster_failed"       a worker died or ran out of memory
    ├── NotifyError                "notify"               the addresses of notices cannot be used
    ├── FlowRefused                "refused"              a precondition of the flow does not hold
    │   └── NothingToDo            "nothing_to_do"        it holds nowhere yet: a quiet end, not a failure
    └── StackError                 "stack"                a process of the local stack misbehaves
        ├── StackNotReady          "stack_not_ready"      a process did not become ready in time
        └── PortTaken              "port_taken"           a port is in use by something else

Each class has a ``code``: one word that machines may compare. The text of an error starts with it,
so that a failed Prefect run shows ``no_data: ...`` as its reason.
"""

from __future__ import annotations

from typing import ClassVar


class FlowError(Exception):
    """Base of every error that this room raises on purpose; its text is safe to show.

    Args:
        message: what was wrong, where, and what to do. The code is put before it.
    """

    code: ClassVar[str] = "flow"

    def __init__(self, message: str) -> None:
        super().__init__(f"{self.code}: {message}")
        self.message = message

    def __reduce__(self) -> tuple[type[FlowError], tuple[str]]:
        # Worker processes send errors home by pickle; the default would add the code twice.
        return (type(self), (self.message,))


class SourceError(FlowError):
    """Reading events failed."""

    code = "source"


class NoData(SourceError):
    """The window holds no usable event; the message says what was looked for."""

    code = "no_data"


class SchemaProblem(SourceError):
    """The table does not fit the use case: a column is missing, empty or of another type."""

    code = "schema"


class SourceOptionsError(SourceError):
    """A path, URL or table name is missing, or an environment variable in it is not set."""

    code = "source_options"


class SourceUnavailable(SourceError):
    """A file or database cannot be read now; the same request may be retried."""

    code = "source_unavailable"


class SnapshotError(FlowError):
    """Stored training data cannot be used."""

    code = "snapshot"


class SnapshotMissing(SnapshotError):
    """No snapshot has that digest."""

    code = "snapshot_missing"


class SnapshotCorrupt(SnapshotError):
    """The stored content differs from its digest."""

    code = "snapshot_corrupt"


class TrainingError(FlowError):
    """A model cannot be made from this data."""

    code = "training"


class OneClass(TrainingError):
    """A fold holds one class only."""

    code = "one_class"


class TooFewRows(TrainingError):
    """A fold, or the history before it, is too short."""

    code = "too_few_rows"


class EvaluationError(FlowError):
    """A candidate cannot be judged."""

    code = "evaluation"


class EngineError(FlowError):
    """The cluster cannot do the work."""

    code = "engine"


class EngineMissing(EngineError):
    """The packages of an optional engine are not installed."""

    code = "engine_missing"


class ClusterUnreachable(EngineError):
    """The scheduler does not answer, has no worker, or its workers do not see what this process sees."""

    code = "cluster_unreachable"


class ClusterFailed(EngineError):
    """A worker died in the middle of the work, most often for want of memory."""

    code = "cluster_failed"


class NotifyError(FlowError):
    """The addresses of notices cannot be used."""

    code = "notify"


class FlowRefused(FlowError):
    """A precondition of the flow does not hold; nothing was changed."""

    code = "refused"


class NothingToDo(FlowRefused):
    """There is nothing that the flow could work on; a run that nobody watches ends quietly."""

    code = "nothing_to_do"


class StackError(FlowError):
    """A process of the local stack misbehaves."""

    code = "stack"


class StackNotReady(StackError):
    """A process did not become ready in time; the message names its log file."""

    code = "stack_not_ready"


class PortTaken(StackError):
    """A port is in use by a process that is not ours."""

    code = "port_taken"
