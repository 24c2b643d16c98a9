from __future__ import annotations

import pytest

from flows.errors import FlowRefused
from flows.steps.operations.retention import Need, day_text, require_unneeded
from tests.support.log.logged import at

COMPARISON = Need(at(5), ("predictions", "shadow"), "the comparison abc")
WINDOW = Need(at(3), ("predictions", "labels"), "the longest window")


def test_a_refusal_names_every_need_and_the_day_before_which_rows_may_go() -> None:
    with pytest.raises(FlowRefused, match=r"abc needs .* 2026-03-07 .* window needs .* before 2026-03-05 may go"):
        require_unneeded([COMPARISON, WINDOW], ("predictions",), at(6))


@pytest.mark.parametrize(("tables", "before"), [(("predictions",), 3), (("shadow",), 5), (("reports",), 99)])
def test_what_nobody_needs_may_go(tables: tuple[str, ...], before: float) -> None:
    require_unneeded([COMPARISON, WINDOW], tables, at(before))


def test_a_day_is_shown_as_a_date() -> None:
    assert day_text(0) == "1970-01-01"
