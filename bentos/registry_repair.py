"""Give the registry back a version that it has lost, from a verified copy.

MLflow counts on from the highest number that a model ever had, and a deleted version keeps its row. So a version
comes back under its own number where that row can be written (MLflow's database is ours to open) or was lost with
all others; behind a server that still counts it, it gets the next number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, text

from bentos.model import ScoringModel
from bentos.roles import ModelRef

if TYPE_CHECKING:
    from bentos.registry import MlflowRegistry

_REVIVE: Final = text(
    "UPDATE model_versions SET current_stage = 'None', source = :source, storage_location = :source, run_id = :run, "
    "run_link = NULL, status = 'READY' "
    "WHERE name = :name AND version = :version AND current_stage = 'Deleted_Internal'"
)


def register_again(registry: MlflowRegistry, ref: ModelRef, folder: Path, tags: Mapping[str, str]) -> ModelRef:
    """Register the model in ``folder`` as ``ref`` again; returns the version that it became.

    Args:
        registry: where it is missing.
        ref: the version that it was.
        folder: a verified copy.
        tags: for a version whose own are gone.
    """
    client, wanted = registry.client, int(ref.version)
    run = client.create_run(registry.experiment(ref.name), run_name=f"register {ref.label} again").info.run_id
    source, model_id = registry.store_files(ScoringModel.load(folder), folder, ref.name, run)
    client.set_terminated(run)
    if _revived(registry.uri, ref, source, run):
        return ref
    registry.ensure_model(ref.name)
    while True:
        made = client.create_model_version(ref.name, source, run, tags=dict(tags), model_id=model_id)
        if int(made.version) >= wanted:
            return ModelRef(ref.name, str(made.version))
        # Lower numbers stand for other content in the journal: they stay counted, and hold nothing.
        client.delete_model_version(ref.name, str(made.version))


def _revived(uri: str, ref: ModelRef, source: str, run: str) -> bool:
    """Bring the row of a deleted version back; false where there is none, or a server keeps the database."""
    if uri.startswith(("http://", "https://")):
        return False
    engine = create_engine(uri)
    try:
        with engine.begin() as connection:
            values = {"source": source, "run": run, "name": ref.name, "version": int(ref.version)}
            return connection.execute(_REVIVE, values).rowcount == 1
    finally:
        engine.dispose()
