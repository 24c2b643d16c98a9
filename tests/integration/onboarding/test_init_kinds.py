"""``incumbent init`` on tables of very different kinds, as people export them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.check.usecase import check_usecase
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.cli import main
from flows.commands.common import UsageRefused
from flows.commands.platform.serve import require_free
from flows.sources import SourceRead, open_source

ROWS = 600
Said = dict[str, Any]


def base(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    x = rng.normal(size=rows)
    return pd.DataFrame(
        {
            "ref": [f"K-{n}" for n in range(rows)],
            "x": x.round(3),
            "city": rng.choice(["Nîmes", "Paris"], rows),
            "cancelled": np.where(x + rng.normal(size=rows) > 1, "oui", "non"),
        }
    )


def begun(
    folder: Path, capsys: pytest.CaptureFixture[str], table: pd.DataFrame, *words: str, **options: Any
) -> tuple[Said, Path]:
    """Write a table, run ``init`` on it; returns what it said and the file."""
    data, out = folder / "export.csv", folder / "mine.toml"
    table.to_csv(data, index=False, **options)
    assert main(["init", "mine", "--from", str(data), "--out", str(out), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out), out


def everything(out: Path) -> tuple[UseCase, SourceRead]:
    usecase = load_usecase(out)
    assert check_usecase(usecase).passed
    source = open_source(usecase)
    return usecase, source.read(source.extent())


def test_decimal_commas_and_days_before_months_are_put_right_in_a_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    amounts = [f"{n % 7}.{n % 1000:03d},{n % 100:02d}" for n in range(ROWS)]
    table = base().assign(Datum=days.strftime("%d/%m/%Y"), Betrag=amounts)
    said, out = begun(tmp_path, capsys, table, sep=";")
    usecase, read = everything(out)
    assert not usecase.untimed
    assert list(read.events["datum"].dt.tz_localize(None)) == list(days)
    assert read.events["betrag"].iloc[123] == pytest.approx(4123.23)
    assert said["copy"] is not None
    assert read.quarantine.empty


def test_milliseconds_since_1970_are_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = pd.date_range("2025-01-01", periods=ROWS, freq="5h", tz="UTC")
    _, out = begun(tmp_path, capsys, base().assign(ts=moments.as_unit("ms").astype(np.int64)))
    usecase, read = everything(out)
    assert usecase.event_time == "ts"
    assert list(read.events["ts"]) == list(moments)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig"])
def test_a_table_of_another_encoding_keeps_its_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    table = base().rename(columns={"ref": "Référence"})
    said, out = begun(tmp_path, capsys, table, encoding=encoding)
    _, read = everything(out)
    assert said["event_id"] == "reference"
    assert set(read.events["city"]) == {"Nîmes", "Paris"}


def test_rows_without_an_id_of_their_own_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, out = begun(tmp_path, capsys, base().assign(ref=[f"K-{n % 50}" for n in range(ROWS)]))
    usecase, read = everything(out)
    assert (said["event_id"], usecase.event_id) == ("row_number", "row_number")
    assert read.events["row_number"].nunique() == ROWS
    assert list(pd.read_parquet(said["copy"])["x"]) == list(base()["x"])


def test_an_id_that_repeats_far_down_is_no_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 200_100
    table = base(rows)[["ref", "x", "cancelled"]]
    table.loc[rows - 1, "ref"] = "K-0"
    said, _ = begun(tmp_path, capsys, table)
    assert said["event_id"] == "row_number"


def test_quotes_commas_and_other_scripts_in_column_names_do_not_confuse_the_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"x": 'Größe, "netto"; (m²)', "city": "  地区 ", "ref": "N'o # = \\ ."}
    said, out = begun(tmp_path, capsys, base().rename(columns=odd))
    usecase, read = everything(out)
    assert [c.name for c in usecase.columns][:3] == ["n_o", "grosse_netto_m2", "column_3"]
    assert list(np.sort(read.events["grosse_netto_m2"])) == list(np.sort(base()["x"]))
    assert said["copy"] is None


def test_a_column_that_tells_the_target_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = base()["cancelled"] == "oui"
    table = base().assign(refund=np.where(left, 9.5, 0.0), why=np.where(left, "moved", "stays"), fax="", one=1)
    said, out = begun(tmp_path, capsys, table)
    features = {f.name for f in load_usecase(out).features}
    assert features == {"x", "city"}
    assert "refund, why" in said["notes"][0]
    text = out.read_text(encoding="utf-8")
    assert "tells the target almost perfectly" in text
    assert "#   fax: always empty" in text


@pytest.mark.parametrize(
    ("target", "kind"),
    [(np.arange(ROWS) % 3, "multiclass"), (np.arange(ROWS) * 0.7, "regression")],
    ids=["multiclass", "regression"],
)
def test_a_target_that_cannot_be_trained_is_refused_by_check_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: Any, kind: str
) -> None:
    said, out = begun(tmp_path, capsys, base().drop(columns="cancelled").assign(target=target))
    assert said["kind"] == kind
    assert main(["check", str(out)]) == 1
    error = capsys.readouterr().err
    assert f"label.kind: found '{kind}'" in error
    assert "make the target one" in error


def test_the_target_may_be_the_first_column_and_other_pairs_of_values_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = base()[["cancelled", "ref", "x", "city"]].assign(default=["no", "yes"] * (ROWS // 2), z=base()["x"] * 2)
    said, out = begun(tmp_path, capsys, table)
    assert said["target"] == "cancelled"
    assert "also two values: city, default" in out.read_text(encoding="utf-8")
    (tmp_path / "again").mkdir()
    other, _ = begun(tmp_path / "again", capsys, table, "--target", "default")
    assert other["target"] == "default"


def test_the_example_request_is_one_that_the_service_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, out = begun(
        tmp_path, capsys, base().assign(x=[None, *base()["x"][1:]], n=range(ROWS), flag=[0, 1] * (ROWS // 2))
    )
    body = json.loads(Path(said["event"]).read_text(encoding="utf-8"))
    event = EventSchema.of(load_usecase(out)).decode(json.dumps(body).encode())
    assert event.values[0] == "K-1"
    assert said["ask"].endswith(f"-d @{said['event']}")


def test_few_rows_and_a_header_alone_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, _ = begun(tmp_path, capsys, base(12))
    assert "12 rows are too few" in said["notes"][-1]
    (tmp_path / "empty.csv").write_text("id,x,churn\n")
    assert main(["init", "none", "--from", str(tmp_path / "empty.csv"), "--out", str(tmp_path / "none.toml")]) == 2
    assert "a header and no rows" in capsys.readouterr().err


def test_a_wrong_name_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "export.csv"
    base().drop(columns="ref").to_csv(data, index=False)
    assert main(["init", "My Case", "--from", str(data), "--out", str(tmp_path / "mine.toml")]) == 2
    assert "'My Case': lower case letters, digits and _, for example my_case" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["export.csv"]


def test_the_profile_shows_every_column_and_escapes_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, _ = begun(tmp_path, capsys, base().rename(columns={"x": "<b>x</b>"}))
    page = Path(said["profile"]).read_text(encoding="utf-8")
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert page.count("<svg") == 2


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageRefused, match=r"cannot listen on 127\.0\.0\.1:\d+: .*--port"):
            require_free("127.0.0.1", taken.getsockname()[1])
