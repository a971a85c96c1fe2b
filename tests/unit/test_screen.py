"""What is printed: harmless, aligned, the same words with and without a terminal."""

from __future__ import annotations

import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.cli.screen import WIDTH, Screen, ago, cell_width, duration, plural

DAY = 86_400_000_000


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(screen_use: object, terminal: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    screen_use(Screen(stream))  # type: ignore[operator]
    return stream.getvalue()


@given(st.text())
def test_a_line_is_one_line_without_controls(text: str) -> None:
    out = printed(lambda screen: screen.line(text))
    assert out.endswith("\n")
    assert out.count("\n") == 1
    assert not {char for char in out[:-1] if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {
        "\t"
    }


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=20)), min_size=1, max_size=5))
def test_columns_fit_the_screen_and_cut_only_the_elastic_one(rows: list[tuple[str, str]]) -> None:
    cells = [[first, "x", second] for first, second in rows]
    out = printed(lambda screen: screen.columns(["A", "B", "C"], cells, elastic=0))
    lines = out.splitlines()
    assert len(lines) == len(rows) + 1
    widest = max(cell_width(line) for line in lines)
    # The other columns are never cut, so that a very long one may still be too wide.
    assert widest <= max(WIDTH, 12 + 2 + 1 + 2 + 20 * 10)


def test_columns_are_aligned_right_left_and_under_wide_text() -> None:
    out = printed(
        lambda screen: screen.columns(["N", "WHAT", "X"], [["1", "日本", "a"], ["10", "b", "c"]], right=(0,))
    )
    assert out == " N  WHAT  X\n 1  日本  a\n10  b     c\n"


def test_a_cut_cell_says_so() -> None:
    out = printed(lambda screen: screen.columns(["", ""], [["y" * 200, "end"]], elastic=0))
    assert out == "y" * 92 + "...  end\n"


def test_the_words_are_the_same_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")

    def use(screen: Screen) -> None:
        screen.line("[bold]not markup[/bold] and :smile:", "red")
        screen.line("a long line " * 30)
        screen.diff(["diff --git a/x b/x", "@@ -1 +1 @@", "-old", "+\tnew"])

    coloured = printed(use, terminal=True)
    assert "\x1b[31m-" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(use)


def test_what_stands_in_an_escape_sequence_is_shown() -> None:
    assert printed(lambda screen: screen.diff(["+\x1b]0;rm -rf x\x07"])) == "+\\x1b]0;rm -rf x\\x07\n"


def test_a_field_of_many_lines_is_indented_and_limited() -> None:
    out = printed(lambda screen: screen.field("output", "a\nb\nc\nd", 2))
    assert out == "  output    a\n            b\n            (2 more lines: --all)\n"
    assert printed(lambda screen: screen.field("output", "a\nb")) == "  output    a\n            b\n"


@pytest.mark.parametrize(
    ("microseconds", "words"),
    [
        (0, "0 ms"),
        (-5, "0 ms"),
        (8_400, "8 ms"),
        (3_100_000, "3.1 s"),
        (41_000_000, "41 s"),
        (102_000_000, "1m 42s"),
        (7_500_000_000, "2h 05m"),
        (9_960_000, "10 s"),
        (59_700_000, "1m 00s"),
        (3_599_900_000, "59m 59s"),
    ],
)
def test_a_duration_reads_as_people_say_it(microseconds: int, words: str) -> None:
    assert duration(microseconds) == words


@pytest.mark.parametrize(
    ("age_us", "words"),
    [
        (0, "just now"),
        (-7_000_000, "just now"),
        (59_000_000, "just now"),
        (120_000_000, "2 min ago"),
        (3_600_000_000, "1 h ago"),
        (DAY, "yesterday"),
        (2 * DAY, "18 Nov"),
        (400 * DAY, "16 Oct 2025"),
    ],
)
def test_an_age_reads_as_people_say_it(age_us: int, words: str) -> None:
    now = 1_795_176_000_000_000  # 20 Nov 2026 12:00 UTC
    assert ago(now - age_us, now) == words


def test_one_is_not_many() -> None:
    assert (plural(1, "file"), plural(0, "file"), plural(2, "file")) == ("1 file", "0 files", "2 files")
