"""Look-up tables of an installation: put there from Parquet, or from a Feast view, and shown.

Feast is not imported: it wants protobuf 4. :func:`pull_view` runs a small program with the Python of an environment
that has it; a Parquet file in a temporary folder is all that passes between the two.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bentos.errors import LookupProblem
from bentos.schema.lookup_file import check_rows, lookup_path, write_rows
from bentos.schema.lookups import LookupTable, read_lookup
from bentos.usecase.definition import UseCase
from bentos.usecase.lookup_problems import VALID_FROM
from flows.errors import FlowRefused

_TAIL = 1_500


@dataclass(frozen=True)
class LookupFacts:
    """One table as it lies in the installation.

    Attributes:
        name: of the lookup.
        entity: the column by which rows are found.
        columns: the columns that it fills.
        rows, entities: how many.
        newest: the newest ``valid_from``; none in an empty table.
        digest: SHA-256 of the file.
        path: the file.
    """

    name: str
    entity: str
    columns: tuple[str, ...]
    rows: int
    entities: int
    newest: datetime | None
    digest: str
    path: str


@dataclass(frozen=True)
class PullResult:
    """What a Feast view gave.

    Attributes:
        facts: the table that was made of it.
        ttl: how long the view's rows count in Feast; none where they do not age.
        superseded: rows left out because a later one of the same entity and time was created.
    """

    facts: LookupFacts
    ttl: timedelta | None
    superseded: int


def choose_lookup(usecase: UseCase, name: str | None, view: str | None = None) -> str:
    """The lookup that is meant: the one that is named, else the one named like the view, else the only one.

    Raises:
        FlowRefused: there is no such lookup, or none was named and there are several.
    """
    lookup_names = [lookup.name for lookup in usecase.lookups]
    if not lookup_names:
        raise FlowRefused(f"{usecase.name} declares no [[lookups]]; there is no table to fill")
    if name is None and view in lookup_names:
        return str(view)
    if name is None and len(lookup_names) == 1:
        return lookup_names[0]
    if name not in lookup_names:
        problem = "no lookup was named" if name is None else f"no lookup is named {name!r}"
        raise FlowRefused(f"{problem}; {usecase.name} declares {', '.join(lookup_names)}")
    return name


def lookup_facts(table: LookupTable, folder: Path) -> LookupFacts:
    """What there is to tell of a table."""
    lookup = table.lookup
    columns = tuple(column.name for column in table.columns)
    path = str(lookup_path(folder, lookup.name))
    return LookupFacts(
        lookup.name, lookup.entity, columns, len(table.rows), table.entities, table.newest, table.digest, path
    )


def list_lookups(usecase: UseCase, folder: Path) -> tuple[list[LookupFacts], list[str]]:
    """Every declared table that can be used, and what is wrong with the others."""
    tables, problems = [], []
    for lookup in usecase.lookups:
        try:
            tables.append(lookup_facts(read_lookup(usecase, lookup.name, folder), folder))
        except LookupProblem as exc:
            problems.append(str(exc))
    return tables, problems


def load_lookup(usecase: UseCase, name: str, file: Path, folder: Path) -> LookupFacts:
    """Check a Parquet file and put it in the place of a table, by one rename.

    Args:
        usecase: declares the lookup.
        name: of the lookup.
        file: holds the entity, ``valid_from`` and the filled columns; see
            :func:`bentos.schema.lookup_file.check_rows`.
        folder: of the installation's tables.

    Raises:
        LookupProblem: the file is no Parquet or does not fit; the old table stays.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lookup = usecase.lookup(name)
    try:
        table = pq.read_table(file).to_pandas()
        write_rows(usecase, lookup, check_rows(usecase, lookup, table), lookup_path(folder, name))
    except (OSError, pa.ArrowException) as exc:
        raise LookupProblem(f"lookup {name!r}: {file}: no readable Parquet file ({exc})") from exc
    except LookupProblem as exc:
        raise LookupProblem(f"lookup {name!r}: {file}: {exc}") from exc
    return lookup_facts(read_lookup(usecase, name, folder), folder)


def pull_view(usecase: UseCase, name: str, repo: Path, view: str, python: str, folder: Path) -> PullResult:
    """Fill a table with the whole history of a Feast view.

    Args:
        usecase: declares the lookup.
        name: of the lookup.
        repo: folder of an applied Feast repository.
        view: a feature view of it with one join key, whose values become the lookup's entity.
        python: an interpreter that has Feast.
        folder: of the installation's tables.

    Raises:
        FlowRefused: Feast does not give the view; its last words are in the text.
        LookupProblem: what it gave does not fit; the old table stays.
    """
    lookup = usecase.lookup(name)
    fields = [column.external_name for column in usecase.columns_of_lookup(name)]
    with tempfile.TemporaryDirectory(prefix="incumbent-feast-") as scratch:
        out = Path(scratch) / "view.parquet"
        request = {
            "repo": str(repo), "view": view, "fields": fields, "entity": lookup.entity, "since": VALID_FROM,
            "out": str(out),
        }  # fmt: skip
        reply = _run_feast(python, repo, request)
        facts = load_lookup(usecase, name, out, folder)
    ttl = timedelta(seconds=reply["ttl_seconds"]) if reply["ttl_seconds"] else None
    return PullResult(facts, ttl, int(reply["superseded"]))


def feast_python(python: str | None) -> str:
    """The interpreter that has Feast: the given one, else the one beside ``feast`` on PATH.

    Raises:
        FlowRefused: neither is there.
    """
    if python is not None:
        return python
    program = shutil.which("feast")
    candidate = Path(program).resolve().with_name("python") if program else None
    if candidate is None or not candidate.exists():
        raise FlowRefused(
            "no feast on PATH; it lives in an environment of its own, so name its interpreter: "
            "--python /path/to/environment/bin/python"
        )
    return str(candidate)


def _run_feast(python: str, repo: Path, request: dict[str, Any]) -> dict[str, Any]:
    # The interpreter is another environment's: what steers ours must not reach it.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    if not repo.is_dir():
        raise FlowRefused(f"{repo}: no such folder; name that of an applied Feast repository with --repo")
    try:
        process = subprocess.run(
            [python, "-c", _PROGRAM, json.dumps(request)],
            cwd=repo, env=environment | {"DO_NOT_TRACK": "1", "FEAST_USAGE": "False"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as exc:
        raise FlowRefused(f"{python}: cannot be run ({exc.strerror}); name a Python that has feast") from exc
    if process.returncode != 0:
        raise FlowRefused(f"feast did not give view {request['view']!r} of {repo}: {process.stderr.strip()[-_TAIL:]}")
    reply: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return reply


_PROGRAM = """\
import json, sys
from datetime import datetime, timezone

import pandas as pd

try:
    from feast import FeatureStore
    from feast.infra.offline_stores.offline_utils import get_offline_store_from_config
except ImportError as exc:
    sys.exit(f"this Python has no feast ({exc}): {sys.executable}")

asked = json.loads(sys.argv[1])
store = FeatureStore(repo_path=asked["repo"])
try:
    view = store.get_feature_view(asked["view"])
except Exception as exc:
    known = ", ".join(sorted(v.name for v in store.list_feature_views())) or "none; run feast apply"
    sys.exit(f"{exc}; the repository has {known}")
keys = [store.get_entity(name).join_key for name in view.entities]
if len(keys) != 1:
    sys.exit(f"the view has {len(keys)} join keys ({', '.join(keys)}); a lookup is by one entity")
names = [field.name for field in view.features]
lacking = [name for name in asked["fields"] if name not in names]
if lacking:
    sys.exit(f"the view has no feature {lacking[0]!r}; it has {', '.join(names)}")
source = view.batch_source
inside = {outer: inner for inner, outer in (source.field_mapping or {}).items()}
key, fields = inside.get(keys[0], keys[0]), [inside.get(name, name) for name in asked["fields"]]
at, created = source.timestamp_field, source.created_timestamp_column or None
rows = get_offline_store_from_config(store.config.offline_store).pull_all_from_table_or_query(
    config=store.config, data_source=source, join_key_columns=[key], feature_name_columns=fields,
    timestamp_field=at, created_timestamp_column=created,
    start_date=datetime(1970, 1, 1, tzinfo=timezone.utc), end_date=datetime(2199, 1, 1, tzinfo=timezone.utc),
).to_df()
rows[at] = pd.to_datetime(rows[at], utc=True)
# Of two rows of one entity and time Feast takes the one that was created last.
rows = rows.sort_values([at, created] if created else [at], kind="stable")
kept = rows.drop_duplicates([key, at], keep="last")
made = {asked["entity"]: kept[key], asked["since"]: kept[at]}
made |= {name: kept[field] for name, field in zip(asked["fields"], fields)}
pd.DataFrame(made).to_parquet(asked["out"], index=False)
ttl = view.ttl.total_seconds() if view.ttl else 0
print(json.dumps({"ttl_seconds": ttl, "superseded": len(rows) - len(kept)}))
"""
