"""Alias against served: what the status says of replicas that lag, are silent, or route by an old policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.registry.routing_policy import RoutingPolicy, canary
from flows.steps.reports.replica_status import replica_line, replica_states
from monitoring.store import Store
from tests.support.fakes import FakeRegistry
from tests.support.releases import MODEL, promoted_once


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> FakeRegistry:
    """Version 2 was promoted over version 1, just now."""
    return promoted_once(tmp_path, store)


def said(store: Store, registry: FakeRegistry, policy: RoutingPolicy | None = None) -> dict[str, dict[str, Any]]:
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    found = replica_states(store, "fraud", MODEL, registry.roles(MODEL), policy, in_a_minute)
    return {one["replica"]: one for one in found}


def beats(store: Store, replica: str, version: str | None, **more: Any) -> None:
    store.serving.heartbeat("fraud", replica, MODEL, version, "2", {"alias": "champion", **more})


def test_a_replica_that_still_serves_the_old_version_is_behind_since_the_alias_moved(
    store: Store, registry: FakeRegistry
) -> None:
    beats(store, "quick", "2")
    beats(store, "slow", "1")
    beats(store, "empty", None)
    found = said(store, registry)
    assert found["quick"]["behind_s"] == 0.0
    for name in ("slow", "empty"):
        assert 59.0 <= found[name]["behind_s"] < 180.0
        assert (found[name]["alias_version"], found[name]["stale"]) == ("2", False)
    assert "BEHIND @champion (2) by" in replica_line(found["slow"])[1]
    assert replica_line(found["empty"])[1].startswith("version nothing as champion, BEHIND")
    assert "BEHIND" not in replica_line(found["quick"])[1]


def test_a_replica_that_routes_by_an_old_policy_says_for_how_long(store: Store, registry: FakeRegistry) -> None:
    since = datetime.now(UTC)
    base = RoutingPolicy("shadow", MODEL, "2", "3", (), "salt", "customer_id", since, "me")
    old, new = canary(base, 0.05), canary(replace(base, created_at=since), 0.25)
    beats(store, "old", "2", routing=old.to_json() | {"digest": old.digest, "share": 0.05, "applied": True})
    beats(store, "new", "2", routing=new.to_json() | {"digest": new.digest, "share": 0.25, "applied": True})
    found = said(store, registry, new)
    assert found["new"]["routing_behind_s"] == 0.0
    assert 59.0 <= found["old"]["routing_behind_s"] < 180.0
    assert "challenger 5%, BEHIND the routing policy by" in replica_line(found["old"])[1]


def test_a_vacant_office_leaves_nobody_behind(store: Store, registry: FakeRegistry) -> None:
    beats(store, "r1", "1")
    registry.clear(MODEL, "champion")
    assert said(store, registry)["r1"]["behind_s"] == 0.0
