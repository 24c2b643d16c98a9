"""When a comparison writes its page."""

from __future__ import annotations

import pytest

from flows.comparison import Pages, page_wanted


@pytest.mark.parametrize(
    ("html", "outcome", "changed", "wanted"),
    [
        ("on_change", "keep_watching", False, False),
        ("on_change", "keep_watching", True, True),
        ("on_change", "promote", False, True),
        ("always", "keep_watching", False, True),
        ("never", "promote", True, False),
    ],
)
def test_a_verdict_that_promotes_has_a_page_each_time(html: Pages, outcome: str, changed: bool, wanted: bool) -> None:
    assert page_wanted(html, outcome, changed) is wanted
