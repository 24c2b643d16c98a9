"""Alias against served: what every replica acknowledges, and how far it is behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bentos.registry.ports import ModelRef, Role
from bentos.registry.routing_policy import EXTERNAL, RoutingPolicy
from monitoring.store import Replica, Store

_FORGOTTEN_AFTER_SECONDS: Final = 600.0
"""A replica that was not heard of for longer is forgotten; one that signed off is forgotten at once."""
STALE_SECONDS: Final = 15.0


def replica_states(
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
    champion_since = _champion_since(store, usecase, model, champion)
    replicas = store.serving.live(usecase, _FORGOTTEN_AFTER_SECONDS)
    return [_replica_state(replica, champion, champion_since, policy, now) for replica in replicas]


def replica_line(state: Mapping[str, Any]) -> tuple[str, str]:
    """One replica for people."""
    text = f"version {state['version'] or 'nothing'} as {state['alias'] or 'nobody'}"
    if state["behind_s"] > 0:
        champion_version = state["alias_version"] or "vacant"
        text += f", BEHIND @champion ({champion_version}) by {state['behind_s']:.0f} s"
    text += f", challenger {state['share']:.0%}"
    if state["routing_behind_s"] > 0:
        text += f", BEHIND the routing policy by {state['routing_behind_s']:.0f} s"
    if state["problem"]:
        text += f" ({state['problem']})"
    return f"served by {state['replica']}", f"{text}, heard of {state['heartbeat_s']:.0f} s ago" + (
        ", STALE" if state["stale"] else ""
    )


def _replica_state(
    replica: Replica,
    champion: ModelRef | None,
    champion_since: datetime | None,
    policy: RoutingPolicy | None,
    now: datetime,
) -> dict[str, Any]:
    detail: dict[str, Any] = json.loads(replica.detail)
    routing: dict[str, Any] = detail.get("routing", {})
    champion_version = None if champion is None else champion.version
    serves = detail.get("alias") == EXTERNAL if champion_version is None else replica.version == champion_version
    digest = None if policy is None else policy.digest
    routing_matches = routing.get("digest") == digest
    return {
        "replica": replica.replica,
        "version": replica.version,
        "alias": detail.get("alias"),
        "contract": detail.get("contract"),
        "since": replica.since,
        "alias_version": champion_version,
        "seen_version": replica.champion,
        # Nothing is behind a role that nobody holds.
        "behind_s": 0.0
        if serves or champion_version is None
        else _seconds(champion_since or _instant(detail, "champion_since"), now),
        "heartbeat_s": round(replica.age, 1),
        "stale": replica.age > STALE_SECONDS,
        "registry_reachable": detail.get("reachable"),
        "polled_at": detail.get("polled_at"),
        "mode": routing.get("mode", "shadow"),
        "share": routing.get("share", 0.0),
        "applied": routing.get("applied", False),
        "routing": routing.get("digest"),
        "routing_behind_s": 0.0 if routing_matches or policy is None else _seconds(policy.created_at, now),
        "problem": routing.get("problem", ""),
        "refused": detail.get("refused", {}),
    }


def _champion_since(store: Store, usecase: str, model: str, champion: ModelRef | None) -> datetime | None:
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
