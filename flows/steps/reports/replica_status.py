"""Alias against served: what every replica acknowledges, and how far it is behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bentos.registry.ports import ModelRef, Role
from bentos.registry.routing_policy import EXTERNAL, RoutingPolicy
from monitoring.store import Replica, Store

_REMEMBERED_SECONDS: Final = 600.0
"""A replica that was not heard of for longer is forgotten; one that signed off is forgotten at once."""
STALE_SECONDS: Final = 15.0


def acknowledged(
    store: Store,
    usecase: str,
    model: str,
    roles: Mapping[Role, ModelRef],
    policy: RoutingPolicy | None,
    now: datetime,
) -> list[dict[str, Any]]:
    """One object for each replica.

    Args:
        store: heartbeats and journal.
        usecase, model: names in the log and in the registry.
        roles: as the registry holds them now.
        policy: the registry's routing policy, if any.
        now: machine time.

    Returns:
        ``replica``; ``version`` and ``alias`` (role) that it answers with, ``contract``; ``alias_version``:
        what the registry says now; ``seen_version``: what the replica saw; ``behind_s``: seconds since the
        alias changed without being served, 0 when it is; ``heartbeat_s`` and ``stale``; ``polled_at``;
        ``mode``, ``share``, ``applied``, ``routing`` (digest) and ``problem``: the routing that it applies;
        ``routing_behind_s``: seconds since the policy was set without being seen; ``refused``.
    """
    champion = roles.get("champion")
    moved = _moved(store, usecase, model, champion)
    found = store.serving.live(usecase, _REMEMBERED_SECONDS)
    return [_one(replica, champion, moved, policy, now) for replica in found]


def replica_line(said: Mapping[str, Any]) -> tuple[str, str]:
    """One replica for people."""
    text = f"version {said['version'] or 'nothing'} as {said['alias'] or 'nobody'}"
    if said["behind_s"] > 0:
        wanted = said["alias_version"] or "vacant"
        text += f", BEHIND @champion ({wanted}) by {said['behind_s']:.0f} s"
    text += f", challenger {said['share']:.0%}"
    if said["routing_behind_s"] > 0:
        text += f", BEHIND the routing policy by {said['routing_behind_s']:.0f} s"
    if said["problem"]:
        text += f" ({said['problem']})"
    return f"served by {said['replica']}", f"{text}, heard of {said['heartbeat_s']:.0f} s ago" + (
        ", STALE" if said["stale"] else ""
    )


def _one(
    replica: Replica, champion: ModelRef | None, moved: datetime | None, policy: RoutingPolicy | None, now: datetime
) -> dict[str, Any]:
    detail: dict[str, Any] = json.loads(replica.detail)
    routing: dict[str, Any] = detail.get("routing", {})
    wanted = None if champion is None else champion.version
    serves = detail.get("alias") == EXTERNAL if wanted is None else replica.version == wanted
    digest = None if policy is None else policy.digest
    seen = routing.get("digest") == digest
    return {
        "replica": replica.replica,
        "version": replica.version,
        "alias": detail.get("alias"),
        "contract": detail.get("contract"),
        "since": replica.since,
        "alias_version": wanted,
        "seen_version": replica.champion,
        # Nothing is behind an office that nobody holds.
        "behind_s": 0.0 if serves or wanted is None else _seconds(moved or _instant(detail, "champion_since"), now),
        "heartbeat_s": round(replica.age, 1),
        "stale": replica.age > STALE_SECONDS,
        "registry_reachable": detail.get("reachable"),
        "polled_at": detail.get("polled_at"),
        "mode": routing.get("mode", "shadow"),
        "share": routing.get("share", 0.0),
        "applied": routing.get("applied", False),
        "routing": routing.get("digest"),
        "routing_behind_s": 0.0 if seen or policy is None else _seconds(policy.created_at, now),
        "problem": routing.get("problem", ""),
        "refused": detail.get("refused", {}),
    }


def _moved(store: Store, usecase: str, model: str, champion: ModelRef | None) -> datetime | None:
    """When the alias got its version, by the database's clock; none where a hand moved it past the journal."""
    terms = store.decisions.terms(model, "champion")
    if champion is None or not terms or terms[-1][0] != champion.version:
        return None
    rows = store.decisions.list(usecase, after=terms[-1][2] - 1, limit=None)
    return rows[0].recorded_at if rows else None


def _instant(detail: Mapping[str, Any], name: str) -> datetime | None:
    text = detail.get(name)
    return None if text is None else datetime.fromisoformat(text)


def _seconds(since: datetime | None, now: datetime) -> float:
    """Seconds that have passed; at least a tenth, so that a replica that is behind never shows as up to date."""
    return 0.1 if since is None else max(0.1, round((now - since).total_seconds(), 1))
