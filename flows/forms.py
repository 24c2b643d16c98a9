"""Parts of the forms that the Prefect UI shows; their fields and help come from these types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from flows.house import House
    from flows.sources import EventSource

Kind = Literal["simulator", "csv", "parquet", "sql", "log"]


class SourceChoice(BaseModel):
    """Where events are read. Empty fields take what the use case declares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = Field(default=None, description="Kind of source; log is the product's own log.")
    path: str | None = Field(default=None, description="File, folder or URL of a csv or parquet source.")
    url: str | None = Field(
        default=None, description="SQLAlchemy URL of a sql source; ${NAME} is replaced by the environment."
    )
    table: str | None = Field(default=None, description="Table or view of a sql source.")

    def open(self, house: House) -> EventSource:
        """The source; nothing is read yet. Raises ``SourceOptionsError`` for options that do not fit."""
        from flows.sources import open_source

        return open_source(house.usecase, self.kind, store=house.store, path=self.path, url=self.url, table=self.table)


DECLARED = SourceChoice()
"""What the use case declares."""
LOG = SourceChoice(kind="log")
"""The product's own log."""
