"""A user's table with other column names works by writing one TOML file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.sources.labels import as_table
from tests.integration.sources.source_cases import FRAUD, WINDOW, truth

OWN_TOML = """
name = "betrug"
event_id = "booking"
event_time = "booked_at"
timezone = "Europe/Berlin"

[label]
column = "was_fraud"
source_name = "Betrug"
observed_at = "Gemeldet am"
matures_after = "7d"
sources = ["chargeback"]

[[columns]]
name = "booking"
source_name = "Buchung Nr."
type = "identifier"

[[columns]]
name = "booked_at"
source_name = "Zeit"
type = "datetime"

[[columns]]
name = "card"
source_name = "Karte"
type = "identifier"

[[columns]]
name = "shop"
source_name = "Händler"
type = "identifier"

[[columns]]
name = "euros"
source_name = "Betrag"
type = "float"
min = 0

[[features]]
name = "euros"
kind = "column"
column = "euros"

[[features]]
name = "card_mean_7d"
kind = "window"
entity = "card"
column = "euros"
agg = "mean"
over = "7d"

[[features]]
name = "shop_risk_1d"
kind = "window"
entity = "shop"
agg = "label_rate"
over = "1d"
delay = "7d"

[source]
kind = "csv"
path = "FILE"

[gates]
min_matured_rows = 100
"""
SAME_FEATURES = ("amount", "customer_mean_amount_7d", "terminal_risk_1d")


def bank_export(file: Path) -> None:
    """Local wall times, semicolons, words for the label, a column of no interest."""
    read = truth()
    labels = read.labels.set_index("event_id").loc[read.events["transaction_id"]]
    table = pd.DataFrame(
        {
            "Filiale": "Mitte",
            "Zeit": read.events["tx_time"].dt.tz_convert("Europe/Berlin").dt.strftime("%Y-%m-%d %H:%M:%S"),
            "Betrag": read.events["amount"].map("{:.2f}".format),
            "Karte": read.events["customer_id"],
            "Händler": read.events["terminal_id"],
            "Buchung Nr.": read.events["transaction_id"],
            "Betrug": np.where(labels["y"].to_numpy() == 1, "true", "false"),
            "Gemeldet am": labels["observed_at"].to_numpy(),
        }
    )
    table["Gemeldet am"] = table["Gemeldet am"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    table.to_csv(file, sep=";", index=False, encoding="utf-8-sig")


def test_a_csv_with_other_names_gives_the_same_features_by_one_toml_file(tmp_path: Path) -> None:
    bank_export(tmp_path / "export.csv")
    (tmp_path / "betrug.toml").write_text(OWN_TOML.replace("FILE", str(tmp_path / "export.csv")), encoding="utf-8")

    usecase = load_usecase(tmp_path / "betrug.toml")
    read = open_source(usecase).read(WINDOW)
    built = FeaturePlan.of(usecase).build(read.events, read.revisions, WINDOW.end)

    reference = FeaturePlan.of(FRAUD).build(truth().events, truth().revisions, WINDOW.end)
    assert read.quarantine.empty
    assert read.labels["y"].tolist() == truth().labels["y"].tolist()
    assert read.labels["observed_at"].tolist() == truth().labels["observed_at"].tolist()
    for ours, theirs in zip(built.columns, SAME_FEATURES, strict=True):
        np.testing.assert_array_equal(built[ours], reference[theirs])


def test_what_was_read_can_be_written_and_read_back(tmp_path: Path) -> None:
    bank_export(tmp_path / "export.csv")
    (tmp_path / "betrug.toml").write_text(OWN_TOML.replace("FILE", str(tmp_path / "export.csv")), encoding="utf-8")
    usecase = load_usecase(tmp_path / "betrug.toml")
    read = open_source(usecase).read(WINDOW)
    as_table(read, usecase).to_csv(tmp_path / "again.csv", index=False)
    as_table(read, usecase).to_parquet(tmp_path / "again.parquet", index=False)
    renamed = usecase.model_copy(
        update={"label": usecase.label.model_copy(update={"source_name": None, "observed_at": "Gemeldet am"})}
    )
    for kind in ("csv", "parquet"):
        again = open_source(renamed, kind, path=str(tmp_path / f"again.{kind}")).read(WINDOW)
        pd.testing.assert_frame_equal(again.events, read.events)
        pd.testing.assert_frame_equal(again.labels, read.labels)
