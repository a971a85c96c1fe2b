"""What a person reads: lines, columns and colours on a terminal, the same text plain in a pipe.

Rules kept here:

- Every string that may come from an agent or a repository passes `agentgov.text.printable`.
- No colour carries meaning alone: the words are the same with and without a terminal.
- rich is imported only where there is a terminal to colour.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from agentgov.text import printable

WIDTH = 100


class Screen:
    """One output stream: stdout for results, stderr for what is said along the way."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to `stream`, coloured only when it is a terminal that wants colours."""
        self.stream = stream
        self._console: Any = None
        if stream.isatty():
            from rich.console import Console

            self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees this at once."""
        return self._console is not None

    @property
    def width(self) -> int:
        """Columns to fill: the terminal's, `WIDTH` in a pipe."""
        return shutil.get_terminal_size((WIDTH, 24)).columns if self.is_terminal else WIDTH

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line; `style` is rich's (`"red"`, `"bold"`, `"dim"`)."""
        safe = _one_line(text)
        if self._console is None:
            self.stream.write(safe + "\n")
        else:
            from rich.segment import Segment, Segments
            from rich.style import Style

            # A text would be wrapped, its tabs expanded, and :smile: turned into a picture.
            shown = Segment(safe, Style.parse(style) if style else None)
            self._console.print(Segments([shown, Segment.line()]), end="")

    def block(self, text: str) -> None:
        """Print many lines as they are, each made printable."""
        for line in text.split("\n"):
            self.line(line)

    def field(self, name: str, text: str, limit: int | None = None) -> None:
        """Print a named text of one or many lines, `limit` of them."""
        lines = text.split("\n")
        shown = lines if limit is None else lines[:limit]
        for index, line in enumerate(shown):
            self.line(f"  {name if index == 0 else '':<9} {line}".rstrip())
        if len(shown) < len(lines):
            self.line(f"{'':12}({len(lines) - len(shown)} more lines: --all)")

    def diff(self, lines: Iterable[str]) -> None:
        """Print a unified diff; on a terminal in colours, with the changed words of a line set off."""
        shown = [_one_line(line) for line in lines]
        if self._console is None:
            self.stream.writelines(f"{line}\n" for line in shown)
            return
        from rich.segment import Segment, Segments
        from rich.style import Style
        from rich.text import Text

        from agentgov.cli.inline import changed_spans

        spans = changed_spans(shown)
        for index, line in enumerate(shown):
            style = _diff_style(line)
            text = Text(line)
            for start, end in spans.get(index, ()):
                text.stylize("reverse", start, end)
            # Printed as a text, its tabs would be expanded.
            parts = Segment.apply_style(text.render(self._console), Style.parse(style) if style else None)
            self._console.print(Segments([*parts, Segment.line()]), end="")

    def columns(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[int] = (),
        elastic: int | None = None,
        styles: Mapping[int, str] | None = None,
        indent: str = "",
    ) -> None:
        """Print aligned columns.

        Args:
            header: The names of the columns; no header line when all are empty.
            rows: Cells, each already a string.
            right: Indices of columns set to the right (numbers).
            elastic: The column that is cut with "..." when a line would be longer than the screen.
            styles: rich style by row index.
            indent: Text before each line.
        """
        cells = [[printable(cell) for cell in row] for row in rows]
        widths = [max(map(cell_width, [name, *(row[at] for row in cells)])) for at, name in enumerate(header)]
        if elastic is not None:
            over = len(indent) + sum(widths) + 2 * (len(widths) - 1) - self.width
            if over > 0:
                widths[elastic] = max(12, widths[elastic] - over)
        if any(header):
            self.line(indent + _aligned(header, widths, right), "bold")
        for number, row in enumerate(cells):
            self.line(indent + _aligned(row, widths, right), (styles or {}).get(number))


def _diff_style(line: str) -> str:
    if line.startswith("+"):
        return "green"
    if line.startswith("-"):
        return "red"
    if line.startswith("@@"):
        return "cyan"
    headers = ("diff ", "index ", "new file", "deleted file", "old mode", "new mode")
    return "bold" if line.startswith(headers) else ""


def _one_line(text: str) -> str:
    # Tabs stay, for diffs; a line feed inside would let a recorded name print a line of its own.
    return printable(text, newlines=True).replace("\n", "\\n")


def cell_width(text: str) -> int:
    """How many columns a text takes on a terminal; wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> str:
    if cell_width(text) <= width:
        return text
    shown, used = "", 0
    for char in text:
        used += _char_width(char)
        if used > width - 3:
            break
        shown += char
    return shown + "..."


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    out = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        shown = _cut(cell, width)
        space = " " * (width - cell_width(shown))
        out.append(space + shown if index in right else shown + space)
    return "  ".join(out).rstrip()


def results() -> Screen:
    """The screen for results (stdout)."""
    return Screen(sys.stdout)


def notes() -> Screen:
    """The screen for progress and summaries (stderr)."""
    return Screen(sys.stderr)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one versioned JSON object (`{"v": 1, ...}`) on stdout, ASCII only."""
    json.dump(value, sys.stdout, ensure_ascii=True, indent=None if not sys.stdout.isatty() else 2)
    sys.stdout.write("\n")


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(microseconds: int) -> str:
    """A length of time as people say it: `8 ms`, `3.1 s`, `1m 42s`, `2h 05m`."""
    seconds = microseconds / 1_000_000
    if seconds < 1:
        return f"{max(0, microseconds) // 1000} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 60:
        return "1m 00s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m {int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h {int(seconds % 3600 // 60):02d}m"


def ago(then_us: int, now_us: int) -> str:
    """`2 min ago`, `1 h ago`, `yesterday`, `18 Nov` (local time)."""
    from datetime import datetime

    seconds = max(0, (now_us - then_us) // 1_000_000)
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60} min ago"
    if seconds < 86400:
        return f"{seconds // 3600} h ago"
    if seconds < 2 * 86400:
        return "yesterday"
    moment = datetime.fromtimestamp(then_us / 1_000_000)
    return f"{moment.day} {moment.strftime('%b')}" + ("" if seconds < 300 * 86400 else f" {moment.year}")
