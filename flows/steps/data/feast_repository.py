"""A Feast repository that exposes the window features of a use case.

Offline each entity, and the event itself, has one view over a Parquet file that our own offline build
made from a snapshot. Online the newest row of each entity is pushed, with the values that the window
state gave when its newest event was answered. Feast is not imported: files are written that Feast
reads, in an environment of its own.

A view answers for an entity at a time with the row of the newest event of that entity at or before
it: at the time of an event, that event's own features. Between events it does not move the window
on; the service does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.features.definitions import WindowDefinition
from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, SnapshotError
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

TIMESTAMP = "event_timestamp"
CREATED = "created"


@dataclass(frozen=True)
class ViewFacts:
    """One Feast view.

    Attributes:
        name: of the view: ``fraud_customer_id``.
        entity: join key, a column of the events.
        features: names of the window features over that entity, in plan order.
        rows: rows of the offline file.
        ambiguous: rows left out because another event of the same entity and microsecond has other
            values; a store that is asked by entity and time can hold one of them only.
        online: whether rows are pushed for it; not for the view by event.
    """

    name: str
    entity: str
    features: tuple[str, ...]
    rows: int
    ambiguous: int
    online: bool = True


def window_plan(usecase: UseCase) -> FeaturePlan:
    """The plan of a use case's window features alone."""
    full_plan = FeaturePlan.of(usecase)
    windows = [d for d in full_plan.definitions if isinstance(d, WindowDefinition)]
    return FeaturePlan(windows, full_plan.event_id, full_plan.event_time, full_plan.sources)


def newest_window(store: Store, usecase: UseCase) -> TimeWindow:
    """The longest window before the newest event of the log; an entity without an event in it has nothing to say.

    Raises:
        FlowRefused: the log is empty.
    """
    span = store.log.span(usecase.name)
    if span is None:
        raise FlowRefused(f"the log holds no event of {usecase.name}; there is no window state to show")
    _, _, newest = span
    return TimeWindow(newest - usecase.longest_window, newest + timedelta(microseconds=1))


def views_by_entity(plan: FeaturePlan) -> dict[str, tuple[str, ...]]:
    """Entity to its window features, in plan order.

    Raises:
        FlowRefused: the plan has no window.
    """
    views: dict[str, tuple[str, ...]] = {}
    for definition in plan.definitions:
        if isinstance(definition, WindowDefinition):
            entity = definition.spec.entity
            views[entity] = (*views.get(entity, ()), definition.name)
    if not views:
        raise FlowRefused("the use case declares no window feature; there is nothing to put into a feature store")
    return views


def entity_rows(
    plan: FeaturePlan, events: pd.DataFrame, features: pd.DataFrame, entity: str, names: tuple[str, ...]
) -> tuple[pd.DataFrame, int]:
    """One row for each entity and time, and how many rows were left out as ambiguous.

    Args:
        plan: names the time column.
        events: an events frame.
        features: features of the same rows, float32.
        entity: the entity column; events without one are left out.
        names: features to take.
    """
    frame = pd.concat(
        [
            events[entity].rename(entity).reset_index(drop=True),
            events[plan.event_time].rename(TIMESTAMP).reset_index(drop=True),
            features[list(names)].reset_index(drop=True),
        ],
        axis=1,
    )
    frame = frame[frame[entity].notna()].drop_duplicates()
    rows = frame.drop_duplicates([entity, TIMESTAMP], keep="last").sort_values(TIMESTAMP, kind="stable")
    # Feast breaks ties of the time by a second one; here there are none, but it asks for the column.
    return rows.assign(**{CREATED: rows[TIMESTAMP]}).reset_index(drop=True), len(frame) - len(rows)


def write_repository(
    folder: Path, usecase: str, plan: FeaturePlan, events: pd.DataFrame, features: pd.DataFrame, digest: str
) -> tuple[ViewFacts, ...]:
    """Write ``feature_store.yaml``, ``features.py``, ``push.py``, ``manifest.json`` and the offline files.

    Args:
        folder: made if missing; files of ours in it are replaced, Feast's registry is kept.
        usecase: name of the project.
        plan: the features.
        events: the events of a snapshot.
        features: ``plan.build`` of the same rows.
        digest: of the snapshot, for the manifest.

    Raises:
        FlowRefused: the plan has no window.
        SnapshotError: the disk refuses a file.
    """
    views = []
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        keys = views_by_entity(plan)
        # By event as well: exact for every row, whatever happened in the same microsecond.
        for entity, names in (keys | {plan.event_id: tuple(plan.names)}).items():
            rows, ambiguous = entity_rows(plan, events, features, entity, names)
            view = ViewFacts(f"{usecase}_{entity}", entity, names, len(rows), ambiguous, entity in keys)
            rows.to_parquet(folder / "data" / f"{view.name}.parquet", index=False)
            views.append(view)
        project = usecase.replace("-", "_")
        (folder / "feature_store.yaml").write_text(_YAML.format(project=project), encoding="utf-8")
        (folder / "features.py").write_text(_definitions(usecase, views), encoding="utf-8")
        (folder / "push.py").write_text(_PUSH, encoding="utf-8")
        manifest = {"plan": plan.fingerprint, "data": digest, "views": [asdict(v) for v in views]}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    except OSError as exc:
        raise SnapshotError(f"{folder}: cannot write the Feast repository ({exc.strerror})") from exc
    return tuple(views)


def write_online(
    folder: Path, plan: FeaturePlan, events: pd.DataFrame, served_features: pd.DataFrame
) -> Mapping[str, int]:
    """Write the newest row of each entity for ``push.py``; says the rows of each view.

    Args:
        folder: of :func:`write_repository`.
        plan: the plan that the repository was written for.
        events: events of the log.
        served_features: ``event_id`` and the features with which each was answered.

    Raises:
        FlowRefused: the repository is missing or of another plan, or a feature was never served.
    """
    manifest = _manifest(folder)
    if manifest["plan"] != plan.fingerprint:
        raise FlowRefused(f"{folder} was written for other features; call feast generate again")
    missing_features = [
        name for names in views_by_entity(plan).values() for name in names if name not in served_features
    ]
    if missing_features:
        raise FlowRefused(f"no event was answered with {missing_features[0]!r} yet; there is no window state to show")
    joined = events.merge(
        served_features, left_on=plan.event_id, right_on="event_id", how="inner", suffixes=("", "_served")
    )
    counts = {}
    for view in [view for view in manifest["views"] if view["online"]]:
        rows, _ = entity_rows(plan, joined, joined[view["features"]], view["entity"], tuple(view["features"]))
        newest = rows.drop_duplicates(view["entity"], keep="last")
        newest.to_parquet(folder / "data" / f"online_{view['name']}.parquet", index=False)
        counts[str(view["name"])] = len(newest)
    return counts


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise FlowRefused(f"{folder} holds no Feast repository of ours; call feast generate first") from exc
    return manifest


def _definitions(usecase: str, views: list[ViewFacts]) -> str:
    """Python that Feast reads; every name is written as a literal."""
    parts = [_HEAD]
    for number, view in enumerate(views):
        fields = "".join(f"\n        Field(name={name!r}, dtype=Float32)," for name in view.features)
        parts.append(
            _VIEW.format(
                n=number,
                entity=view.entity,
                name=view.name,
                path=f"data/{view.name}.parquet",
                fields=fields,
                online=view.online,
            )
        )
    view_names = ", ".join(f"view_{n}" for n, view in enumerate(views) if view.online)
    parts.append(f"service = FeatureService(name={usecase + '_windows'!r}, features=[{view_names}])\n")
    return "\n".join(parts)


_YAML = """\
project: {project}
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online.db
offline_store:
  type: dask
entity_key_serialization_version: 3
"""

_HEAD = '''\
"""Window features as Feast views; written by ``incumbent feast generate``, do not edit."""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32

HERE = Path(__file__).resolve().parent
'''

_VIEW = """\
entity_{n} = Entity(name={entity!r}, join_keys=[{entity!r}], value_type=ValueType.STRING)
source_{n} = FileSource(
    name={name!r},
    path=str(HERE / {path!r}),
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
view_{n} = FeatureView(
    name={name!r},
    entities=[entity_{n}],
    ttl=timedelta(0),
    schema=[{fields}
    ],
    source=source_{n},
    online={online},
)
"""

_PUSH = '''\
"""Push the newest window values of each entity; run after ``feast apply`` and ``incumbent feast online``."""

import json
from pathlib import Path

import pandas as pd
from feast import FeatureStore


def push() -> None:
    here = Path(__file__).resolve().parent
    store = FeatureStore(repo_path=str(here))
    for view in json.loads((here / "manifest.json").read_text())["views"]:
        if not view["online"]:
            continue
        rows = pd.read_parquet(here / "data" / f"online_{view['name']}.parquet")
        store.write_to_online_store(view["name"], df=rows)
        print(view["name"], len(rows))


if __name__ == "__main__":  # feast apply imports every file of the folder
    push()
'''
