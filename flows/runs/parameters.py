"""Parts of the forms that the Prefect UI shows; their fields and help come from these types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from bentos.settings import Settings
    from flows.sources import EventSource
    from flows.workspace.workspace import Workspace

Kind = Literal["simulator", "csv", "parquet", "sql", "log"]
Engine = Literal["single", "dask"]


class SourceChoice(BaseModel):
    """Where events are read. Empty fields take what the use case declares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = Field(default=None, description="Kind of source; log is the product's own log.")
    path: str | None = Field(default=None, description="File, folder or URL of a csv or parquet source.")
    url: str | None = Field(
        default=None, description="SQLAlchemy URL of a sql source; ${NAME} is replaced by the environment."
    )
    table: str | None = Field(default=None, description="Table or view of a sql source.")

    def open(self, workspace: Workspace) -> EventSource:
        """The source; nothing is read yet. Raises ``SourceOptionsError`` for options that do not fit."""
        from flows.sources import open_source

        return open_source(
            workspace.usecase, self.kind, store=workspace.store, path=self.path, url=self.url, table=self.table
        )


class EngineChoice(BaseModel):
    """Where the work is done. Empty fields take what the settings say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine | None = Field(default=None, description="single is this process; dask is a cluster.")
    scheduler: str | None = Field(default=None, description="Address of the Dask scheduler, tcp://HOST:8786.")

    def address(self, settings: Settings) -> str | None:
        """The scheduler's address, or none for the work in this process.

        Raises:
            FlowRefused: a scheduler is named for an engine that has none.
        """
        from flows.errors import FlowRefused

        engine = self.engine or settings.engine
        if engine == "dask":
            return self.scheduler or settings.scheduler
        if self.scheduler:
            raise FlowRefused("a scheduler is named, but the engine is single; add --engine dask, or INCUMBENT_ENGINE")
        return None


AS_SET = EngineChoice()
"""What the settings say."""
DECLARED = SourceChoice()
"""What the use case declares."""
LOG = SourceChoice(kind="log")
"""The product's own log."""
