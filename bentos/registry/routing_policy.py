"""Which arm answers an event: the routing policy of a model, and the rule that applies it.

A policy is one tag of the registered model, so a worker sees it in the same look-up as the roles. It
names the versions that it is about, and is in effect only while they hold their roles: a challenger
that is appointed later starts without traffic.

The assignment is sticky: an entity stays in its arm, and a larger share only adds entities to the
challenger's side (:func:`monitoring.rollout.sample_ratio.sticky_hash`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Literal

from bentos.errors import RoutingError
from bentos.schema.event import Event
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.rollout.sample_ratio import sticky_hash

Mode = Literal["shadow", "canary", "ab", "external"]
Side = Literal["champion", "challenger"]
ROUTING_TAG: Final = "incumbent.routing"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
EXTERNAL: Final = "external"
_SPACE: Final = 2.0**64
_SHORT: Final = 12


@dataclass(frozen=True)
class Arm:
    """One arm: its name in the log, the role that answers it, its share of the entities (0..1)."""

    name: str
    role: Side
    share: float


@dataclass(frozen=True)
class RoutingPolicy:
    """Who answers what.

    Attributes:
        mode: ``shadow``: the champion answers all; ``canary``: a share to the challenger; ``ab``: named
            arms with shares; ``external``: the external incumbent is champion again, and the vacancy of
            ``@champion`` is meant.
        model: registered model.
        champion, challenger: the versions that it is about; ``external`` for an external incumbent.
        arms: shares sum up to 1.
        salt: of the hash; one salt through a ramp, so that its shares nest.
        entity: column whose values stay in their arm; none hashes the event id.
        created_at: machine time.
        actor, reason: who set it, and why.
        guard: conditions under which a ramp may go on, as text; see :mod:`monitoring.rollout.ramp_guard`.
    """

    mode: Mode
    model: str
    champion: str
    challenger: str
    arms: tuple[Arm, ...]
    salt: str
    entity: str | None
    created_at: datetime
    actor: str
    reason: str = ""
    guard: str = ""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names) or not all(names):
            raise RoutingError("each arm of a routing policy needs a name of its own")
        if self.mode not in ("shadow", "canary", "ab", "external"):
            raise RoutingError(f"a routing policy's mode is shadow, canary, ab or external, not {self.mode!r}")
        if any(arm.role not in (CHAMPION, CHALLENGER) for arm in self.arms):
            raise RoutingError("an arm is answered by the champion or by the challenger")
        shares = [arm.share for arm in self.arms]
        if not all(math.isfinite(share) and 0.0 <= share <= 1.0 for share in shares):
            raise RoutingError("an arm's share lies between 0 and 1")
        if self.arms and abs(sum(shares) - 1.0) > 1e-9:
            raise RoutingError(f"the shares of the arms sum up to 1, not to {sum(shares):g}")

    @property
    def share(self) -> float:
        """Share of the entities that the challenger answers."""
        return sum(arm.share for arm in self.arms if arm.role == CHALLENGER)

    @property
    def routes(self) -> bool:
        """Whether arms are told apart at all."""
        return self.mode == "ab" or (self.mode == "canary" and self.share > 0)

    @cached_property
    def digest(self) -> str:
        """Short name of exactly this policy: logged with every event that it routed."""
        return sha256_hex(self.to_text().encode())[:_SHORT]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        names = ("mode", "model", "champion", "challenger", "salt", "entity", "actor", "reason", "guard")
        arms = [{"name": arm.name, "role": arm.role, "share": arm.share} for arm in self.arms]
        return {name: getattr(self, name) for name in names} | {
            "arms": arms,
            "created_at": self.created_at.astimezone(UTC).isoformat(),
        }

    def to_text(self) -> str:
        """Canonical JSON: what the tag holds."""
        return canonical_json(self.to_json()).decode()

    @classmethod
    def from_text(cls, text: str) -> RoutingPolicy:
        """The reverse of :meth:`to_text`; raises :class:`~bentos.errors.RoutingError`."""
        try:
            data = json.loads(text)
            arms = tuple(Arm(str(a["name"]), a["role"], float(a["share"])) for a in data.pop("arms"))
            return cls(**data | {"arms": arms, "created_at": datetime.fromisoformat(data["created_at"])})
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise RoutingError(f"the routing policy in the registry cannot be read: {type(exc).__name__}") from exc


def canary(policy: RoutingPolicy, share: float) -> RoutingPolicy:
    """The same experiment with another share for the challenger; a share of 0 leaves it in shadow only."""
    arms = (Arm(CHALLENGER, CHALLENGER, share), Arm(CHAMPION, CHAMPION, 1.0 - share))
    return replace(policy, mode="canary" if share > 0 else "shadow", arms=arms)


def parse_arms(text: str, names: Sequence[str] = ()) -> tuple[Arm, ...]:
    """``A=champion:50,B=challenger:50`` as arms; shares in percent.

    ``50,50`` is short for the arms ``A`` (champion) and ``B`` (challenger).

    Raises:
        RoutingError: for anything else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if len(parts) == 2 and all("=" not in part for part in parts):
            sides: tuple[Side, Side] = (CHAMPION, CHALLENGER)
            return tuple(
                Arm(name, role, float(part) / 100) for name, role, part in zip("AB", sides, parts, strict=True)
            )
        return tuple(_arm(part) for part in parts)
    except ValueError as exc:
        raise RoutingError(
            f"arms are written as A=champion:50,B=challenger:50 with shares in percent, not as {text!r}"
        ) from exc


def _arm(part: str) -> Arm:
    name, _, role_share = part.partition("=")
    role, _, share = role_share.partition(":")
    if role not in (CHAMPION, CHALLENGER):
        raise ValueError(role)
    return Arm(name.strip(), CHALLENGER if role == CHALLENGER else CHAMPION, float(share) / 100)


@dataclass(frozen=True)
class Router:
    """A policy, compiled: which arm an event is in.

    Challenger arms come first on the line from 0 to 1, so the challenger's side of a smaller share lies
    inside that of a larger one.

    Attributes:
        policy: what is applied.
        names: names of the arms, challengers first.
        is_challenger: for each of them, whether the challenger answers.
    """

    policy: RoutingPolicy
    names: tuple[str, ...] = field(init=False)
    is_challenger: tuple[bool, ...] = field(init=False)
    _edges: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        arms = sorted(self.policy.arms, key=lambda arm: arm.role != CHALLENGER)
        edges, total = [], 0.0
        for arm in arms:
            total += arm.share
            edges.append(total * _SPACE)
        edges[-1] = math.inf  # sums of shares may fall a hair short of 1
        object.__setattr__(self, "names", tuple(arm.name for arm in arms))
        object.__setattr__(self, "is_challenger", tuple(arm.role == CHALLENGER for arm in arms))
        object.__setattr__(self, "_edges", tuple(edges))

    def place(self, unit: str) -> int:
        """Index of the arm of a unit."""
        number = sticky_hash(self.policy.salt, unit)
        for place, edge in enumerate(self._edges):
            if number < edge:
                return place
        return len(self._edges) - 1

    def reader(self, event: Event) -> Callable[[Event], str]:
        """How the unit of an event is read, for events of one schema."""
        entity = self.policy.entity
        if entity is None or entity not in event.schema.position:
            return _event_id
        position = event.schema.position[entity]

        def unit(event: Event) -> str:
            value = event.values[position]
            return event.event_id if value is None else str(value)

        return unit

    def places(self, events: Sequence[Event]) -> list[int]:
        """Index of the arm of each event."""
        unit = self.reader(events[0])
        return [self.place(unit(event)) for event in events]


def _event_id(event: Event) -> str:
    return event.event_id
