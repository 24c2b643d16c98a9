"""Give the registry back a version that it has lost, from a verified copy.

MLflow counts on from the highest number that a model ever had, and a deleted version keeps its row. So a version
comes back under its own number where that row can be written (MLflow's database is ours to open) or was lost with
all others; behind a server that still counts it, it gets the next number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, text

from bentos.registry.ports import ModelRef

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_REVIVE: Final = text(
    "UPDATE model_versions SET current_stage = 'None', source = :source, storage_location = :source, run_id = :run, "
    "run_link = NULL, status = 'READY' "
    "WHERE name = :name AND version = :version AND current_stage = 'Deleted_Internal'"
)


def create_version_numbered(
    client: MlflowClient, ref: ModelRef, source: str, run: str, tags: Mapping[str, str], model_id: str
) -> ModelRef:
    """Create a version with the number of ``ref``, or the next one that the registry gives; returns what it became.

    Args:
        client: of the registry where the version is missing.
        ref: the version that it was.
        source: where its files lie.
        run: the run that it belongs to.
        tags: for a version whose own are gone.
        model_id: MLflow's id of the logged model.
    """
    while True:
        created_version = client.create_model_version(ref.name, source, run, tags=dict(tags), model_id=model_id)
        if int(created_version.version) >= int(ref.version):
            return ModelRef(ref.name, str(created_version.version))
        # Lower numbers stand for other content in the journal: they stay counted, and hold nothing.
        client.delete_model_version(ref.name, str(created_version.version))


def revive_deleted_version(uri: str, ref: ModelRef, source: str, run: str) -> bool:
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
