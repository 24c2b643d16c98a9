from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from bentos.usecase.definition import Shift
from bentos.usecase.loading import load_usecase
from flows.errors import SchemaProblem, SourceOptionsError
from flows.sources import SOURCES, open_source
from flows.sources.simulator import SimulatorSource
from monitoring.core.calendar import TimeWindow

FRAUD = load_usecase("fraud")


def simulator(**options: object) -> SimulatorSource:
    source = open_source(FRAUD, "simulator", **options)
    assert isinstance(source, SimulatorSource)
    return source


def test_the_use_case_names_the_source() -> None:
    assert open_source(FRAUD).kind == FRAUD.source.kind == "simulator"
    assert set(SOURCES) == {"simulator", "csv", "parquet", "sql", "log"}


def test_overrides_win_over_the_file() -> None:
    source = simulator(days=3, seed=11, customers=None)
    assert (source.options.days, source.options.seed) == (3, 11)
    assert source.options.customers == FRAUD.source.simulator.customers


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("csv", {}, "source 'csv' needs 'path'"),
        ("parquet", {"path": ""}, "source 'parquet' needs 'path'"),
        ("sql", {"url": "sqlite://"}, "source 'sql' needs 'table'"),
        ("sql", {"tabel": "cards"}, "unknown option 'tabel'; allowed: customers, customers_a_day, days"),
        ("excel", {}, "kind: Input should be 'simulator', 'csv'"),
        ("simulator", {"days": -1}, "days: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_option_is_named(kind: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(SourceOptionsError, match=f"^source_options: {text}"):
        open_source(FRAUD, kind, **options)


def test_the_origin_is_enough_to_make_the_same_world_again() -> None:
    source = simulator(days=3, shifts=(Shift(day=2, kind="amount_scale", factor=1.4),))
    assert source.origin == (
        "simulator 1000 customers, 2000 terminals, seed 7, 2026-01-01, amount_scale x1.4 from day 2"
    )


def test_reading_one_day_equals_that_day_of_the_whole() -> None:
    source = simulator(customers=100, terminals=200, days=10)
    whole = source.read(source.extent())
    start = datetime(2026, 1, 4, 6, 30, tzinfo=UTC)
    part = source.read(TimeWindow(start, start + timedelta(days=1)))
    times = whole.events["tx_time"]
    expected = whole.events[(times >= start) & (times < start + timedelta(days=1))].reset_index(drop=True)
    assert part.events.equals(expected)


def test_the_answer_key_is_apart_from_the_events() -> None:
    source = simulator(customers=300, terminals=600, days=10, shifts=(Shift(day=0, kind="fraud_scenario", factor=2.0),))
    read = source.read(source.extent())
    key = source.scenarios(source.extent())
    assert "scenario" not in read.events
    assert key.index.tolist() == read.events["transaction_id"].tolist()
    assert ((key > 0).to_numpy() == (read.labels["y"] == 1).to_numpy()).all()
    assert 4 in key.to_numpy()


def test_the_world_makes_the_columns_of_a_use_case_with_other_names() -> None:
    names = {"transaction_id": "tx", "tx_time": "at", "customer_id": "card", "terminal_id": "shop", "amount": "euros"}
    columns = tuple(c.model_copy(update={"name": names[c.name]}) for c in FRAUD.columns)
    usecase = FRAUD.model_copy(update={"columns": columns, "event_id": "tx", "event_time": "at"})
    source = open_source(usecase, "simulator", days=2)
    assert list(source.read(source.extent()).events.columns) == list(names.values())


def test_a_column_that_the_world_lacks_is_named() -> None:
    device = FRAUD.columns[2].model_copy(update={"name": "device", "source_name": None})
    usecase = FRAUD.model_copy(update={"columns": (*FRAUD.columns, device)})
    source = open_source(usecase)
    with pytest.raises(SchemaProblem, match="has no column 'device'; choose another source"):
        source.read(source.extent())


def test_opening_a_source_imports_no_heavy_library() -> None:
    code = (
        "import sys; from bentos.usecase.loading import load_usecase; from flows.sources import open_source;"
        "open_source(load_usecase('fraud'), 'csv', path='x.csv');"
        "heavy = {'xgboost', 'mlflow', 'evidently', 'sklearn', 'prefect', 'matplotlib', 'sqlalchemy', 'scipy'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
