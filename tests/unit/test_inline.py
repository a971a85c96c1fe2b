from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentgov.cli.inline import MAX_LINE, changed_spans

HEAD = ["diff --git a/x b/x", "--- a/x", "+++ b/x", "@@ -1 +1 @@"]


def marked(lines: list[str]) -> list[str]:
    return [
        lines[at][start:end] for at, spans in sorted(changed_spans(lines).items()) for start, end in spans
    ]


def test_the_words_that_changed_are_marked() -> None:
    lines = [*HEAD, "-return total / len(items)", "+return total / max(1, len(items))"]
    assert marked(lines) == [" max(1,", ")"]


def test_file_names_are_not_compared() -> None:
    assert changed_spans(HEAD) == {}


def test_runs_of_other_lengths_long_lines_and_unlike_lines_are_left_alone() -> None:
    assert changed_spans([*HEAD, "-a b", "+a c", "+a d"]) == {}
    assert changed_spans([*HEAD, "-" + "a" * (MAX_LINE + 1), "+" + "a" * MAX_LINE]) == {}
    assert changed_spans([*HEAD, "-abc", "+xyz"]) == {}


@given(
    st.lists(st.tuples(st.sampled_from("-+ "), st.text(st.sampled_from("ab c-+"), max_size=12)), max_size=12)
)
def test_spans_lie_within_changed_lines(rows: list[tuple[str, str]]) -> None:
    lines = [*HEAD, *(sign + text for sign, text in rows)]
    for at, spans in changed_spans(lines).items():
        assert lines[at][0] in "-+"
        assert all(1 <= start < end <= len(lines[at]) for start, end in spans)
