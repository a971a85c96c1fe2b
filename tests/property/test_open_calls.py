"""The list of running calls as a line spells it, kept from line to line instead of being made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentgov.ledger.fields import MAX_LIST
from agentgov.ledger.verify_calls import _open_text, _without


@given(st.sets(st.integers(1, 300), min_size=1, max_size=40), st.data())
def test_taking_out_a_call_leaves_the_text_of_the_others(calls: set[int], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(calls)))
    assert _without(_open_text(calls), str(gone)) == _open_text(calls - {gone})


def test_more_calls_than_a_line_can_name_fit_no_line() -> None:
    assert _open_text(set(range(1, MAX_LIST + 1))).endswith(f",{MAX_LIST}")
    assert not _open_text(set(range(1, MAX_LIST + 2)))[0].isdigit()
