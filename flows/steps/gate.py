"""Which role a judged model gets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from bentos.registry import ModelRef, ModelRegistry
from bentos.settings import Settings
from bentos.usecase import UseCase
from monitoring.gates import Verdict

if TYPE_CHECKING:
    from monitoring.store import Store


@dataclass(frozen=True)
class Seat:
    """What became of a judged version.

    Attributes:
        role: ``champion`` for the first that passes, ``challenger`` when nothing is under comparison,
            ``candidate`` when something is; none when the gates refused it.
        ref: the version, or none when nothing was registered.
        reason: one plain sentence.
        replaced: the version that held the role before (only a candidate is ever replaced here).
    """

    role: Literal["champion", "challenger", "candidate"] | None
    ref: ModelRef | None
    reason: str
    replaced: ModelRef | None = None


def seat(
    usecase: UseCase,
    settings: Settings,
    registry: ModelRegistry,
    store: Store,
    ref: ModelRef | None,
    verdict: Verdict,
    *,
    actor: str,
    now: datetime,
) -> Seat:
    """Give a version the role that its verdict earns; repeating it changes nothing.

    The first model that passes takes office through :func:`bentos.release.install_first` unless the
    use case declares an external incumbent. A later one becomes ``@challenger``, or ``@candidate``
    while a comparison is under way: a challenger is never replaced before its own verdict.

    Args:
        ref: the registered version, or none when the gates refused it.
        verdict: of the gates, about this version.
        actor: who asked, for the journal.
        now: machine time of the request, aware.

    Raises:
        FlowRefused: when the verdict is about another model than ``ref``.
    """
    raise NotImplementedError
