"""What the words of a shell command mean: quotes, variables, braces, globs, substitutions.

Rules kept here:
- Quoting decides: only unquoted `*?[` are globs and only unquoted expansions are split.
- What a substitution prints is not known, but the words of its command are what it most likely prints, so
  they are kept as possible values next to UNKNOWN.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import BRACKET, MAX_VALUE_CHARS, MAX_VALUES, QUERY, STAR, Scope, Word

if TYPE_CHECKING:
    from tree_sitter import Node

Substitution = Callable[["Node", Scope], tuple[str | None, tuple[str, ...]]]
"""Reads a substituted command: (its output when known, the words it may print)."""

MAX_BRACED = 256
_ALL_ARGUMENTS = frozenset({"$@", '"$@"', "$*", "${@}", '"${@}"', "${*}"})
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BRACE_RANGE = re.compile(r"(-?\d{1,6})\.\.(-?\d{1,6})")
_DOUBLE_QUOTE_ESCAPE = re.compile(r'\\([$`"\\\n])')
_GLOBS = {"*": STAR, "?": QUERY, "[": BRACKET}


def text_of(node: Node) -> str:
    """The source text of a node."""
    return unmask(node.text or b"")


def mask(text: str) -> bytes:
    """The text in ASCII for the parser.

    tree-sitter-bash hands characters to C's `isalpha` and its like, whose tables end at 255: a character
    beyond crashed the process (measured). Each that is not ASCII therefore becomes a word of letters.
    """
    return _NOT_ASCII.sub(lambda match: f"QZ{ord(match[0]):x}ZQ", text).encode("ascii")


def unmask(raw: bytes) -> str:
    """The original of a part of a masked text."""
    return _MASKED.sub(lambda match: chr(int(match[1], 16)), raw.decode("ascii", "surrogateescape"))


_MASKED = re.compile(r"QZ([0-9a-f]{2,6})ZQ")
# A text that looks masked already has its first letter masked.
_NOT_ASCII = re.compile(r"[^\x00-\x7f]|Q(?=Z[0-9a-f]{2,6}Z(?:Q|[^\x00-\x7f]))")


def fields(node: Node, scope: Scope, substitute: Substitution) -> list[Word]:
    """The words an argument becomes: usually one; several after braces or the splitting of a variable."""
    values = _values(node, scope, substitute)
    if text_of(node) in _ALL_ARGUMENTS and "@" in scope.variables:
        return [(value,) for value in scope.variables["@"]]
    if node.type in ("simple_expansion", "expansion", "command_substitution") and len(values) == 1:
        parts = values[0].split()
        if len(parts) > 1:
            return [(_activate(part),) for part in parts]
    expanded = (
        [_braced(value) for value in values]
        if node.type in ("word", "concatenation", "brace_expression")
        else []
    )
    if len(expanded) == 1 and len(expanded[0]) > 1:
        return [(_unbrace(value),) for value in expanded[0]]
    return [tuple(dict.fromkeys(_unbrace(value) for value in values))]


# An unquoted brace or comma is marked as the word is read, so that quoted ones stay as they are.
_OPEN, _COMMA, _CLOSE = "\ue020", "\ue021", "\ue022"


def _unbrace(value: str) -> str:
    return value.replace(_OPEN, "{").replace(_COMMA, ",").replace(_CLOSE, "}")


def _activate(text: str) -> str:
    return "".join(_GLOBS.get(char, char) for char in text)


def _unquoted(raw: str) -> str:
    out: list[str] = []
    index = 0
    marks = {"{": _OPEN, ",": _COMMA, "}": _CLOSE, **_GLOBS}
    while index < len(raw):
        char = raw[index]
        if char == "\\" and index + 1 < len(raw):
            index += 1
            if raw[index] != "\n":
                out.append(raw[index])
        else:
            out.append(marks.get(char, char))
        index += 1
    return "".join(out)


def _values(node: Node, scope: Scope, substitute: Substitution) -> Word:
    kind = node.type
    if kind in (
        "word",
        "number",
        "variable_name",
        "extglob_pattern",
        "regex",
        "special_variable_name",
        "file_descriptor",
    ):
        if kind == "word" and node.named_child_count:
            return _concatenated(node, scope, substitute, quoted=False)
        raw = text_of(node)
        if kind == "extglob_pattern":
            return (STAR,)
        return (_tilde(_unquoted(raw), scope),)
    if kind == "raw_string":
        return (text_of(node)[1:-1],)
    if kind == "ansi_c_string":
        return (_ansi(text_of(node)[2:-1]),)
    if kind in ("string", "translated_string"):
        return _concatenated(node, scope, substitute, quoted=True)
    if kind == "string_content":
        return (_DOUBLE_QUOTE_ESCAPE.sub(lambda match: "" if match[1] == "\n" else match[1], text_of(node)),)
    if kind in ("concatenation", "command_name"):
        return _concatenated(node, scope, substitute, quoted=False)
    if kind == "simple_expansion":
        return _variable(text_of(node)[1:], scope)
    if kind == "expansion":
        return _expansion(node, scope, substitute)
    if kind == "command_substitution":
        known, hints = substitute(node, scope)
        return (known,) if known is not None else tuple(dict.fromkeys((*hints[:MAX_VALUES], UNKNOWN)))
    if kind == "process_substitution":
        substitute(node, scope)
        return ("-",)
    if kind == "brace_expression":
        return (_unquoted(text_of(node)),)
    if kind == "arithmetic_expansion":
        return (UNKNOWN,)
    return (UNKNOWN,)


def _concatenated(node: Node, scope: Scope, substitute: Substitution, *, quoted: bool) -> Word:
    # Text between the children (a quoted blank, a bare dollar) is part of the word and is not a node.
    source = node.text or b""
    position = node.start_byte
    pieces: list[Word] = []
    ends = 1 if node.type in ("string", "translated_string") else 0
    prefix = source.index(b'"') + 1 if ends and b'"' in source else 0
    position += prefix
    stop = node.end_byte - ends
    for child in node.children:
        if child.type == '"' or (child.end_byte <= position and child.type != "string_content"):
            continue
        if child.start_byte > position:
            gap = source[position - node.start_byte : child.start_byte - node.start_byte]
            pieces.append((unmask(gap),))
        if child.is_named:
            values = _values(child, scope, substitute)
            if not quoted and child.type not in ("string", "raw_string", "ansi_c_string", "word", "number"):
                values = tuple(_activate(value) for value in values)
            pieces.append(values)
        else:
            raw = text_of(child)
            pieces.append((raw if quoted else _unquoted(raw),))
        position = child.end_byte
    if stop > position:
        gap = source[position - node.start_byte : stop - node.start_byte]
        pieces.append((unmask(gap),))
    if not pieces:
        return ("",)
    if sum(max(map(len, piece)) for piece in pieces) > MAX_VALUE_CHARS:
        return (UNKNOWN,)
    joined = ["".join(parts) for parts in itertools.islice(itertools.product(*pieces), MAX_VALUES)]
    return tuple(dict.fromkeys(joined))


def _tilde(value: str, scope: Scope) -> str:
    if not value.startswith("~"):
        return value
    head, slash, rest = value.partition("/")
    if head in ("~", "~+") or (scope.places.home and head == "~" + scope.places.home.rsplit("/", 1)[-1]):
        base = scope.places.home if head != "~+" else scope.folders[0]
        return value if base is None else base + slash + rest
    # Somebody else's home: where it lies is not known, but it is nobody's workspace.
    return "/" + UNKNOWN + slash + rest


def _variable(name: str, scope: Scope) -> Word:
    return scope.variables.get(name.strip("{}"), (UNKNOWN,))


def _expansion(node: Node, scope: Scope, substitute: Substitution) -> Word:
    raw = text_of(node)
    named = node.named_children
    if not named or named[0].type != "variable_name":
        return (UNKNOWN,)
    name = text_of(named[0])
    rest = raw[2 + len(name) : -1] if raw.startswith("${" + name) else None
    if rest == "":
        return _variable(name, scope)
    if (rest is not None and rest[:2] in (":-", ":=", "-", "=")) or (
        rest is not None and rest[:1] in ("-", "=")
    ):
        fallback = [_values(child, scope, substitute) for child in named[1:]] or [("",)]
        if name in scope.variables:
            return tuple(dict.fromkeys((*scope.variables[name], *fallback[0])))
        return tuple(dict.fromkeys((*fallback[0], UNKNOWN)))
    if rest is not None and rest[:1] in ("%", "#") and name in scope.variables:
        # A trimmed value still lies at or above the same path.
        return tuple(dict.fromkeys((*scope.variables[name], UNKNOWN)))
    return (UNKNOWN,)


def _ansi(raw: str) -> str:
    try:
        return codecs.decode(raw.replace(r"\'", "'").replace(r"\e", r"\x1b"), "unicode_escape")
    except ValueError:
        return UNKNOWN


def _braced(value: str) -> list[str]:
    found = list(itertools.islice(_braces(value), MAX_BRACED + 1))
    return found if len(found) <= MAX_BRACED else [*found[:MAX_BRACED], UNKNOWN]


def _braces(value: str) -> Iterator[str]:
    # One after the other, so that whoever takes a few does not wait for 2**40.
    start = value.rfind(_OPEN)
    end = value.find(_CLOSE, start)
    if start < 0 or end < 0:
        yield _unbrace(value)
        return
    inner, head, tail = value[start + 1 : end], value[:start], value[end + 1 :]
    if _COMMA in inner:
        options = inner.split(_COMMA)
    elif match := _BRACE_RANGE.fullmatch(inner):
        low, high = sorted((int(match[1]), int(match[2])))
        options = [str(number) for number in range(low, min(high, low + MAX_VALUES) + 1)]
    else:
        options = ["{" + inner + "}"]
    for option in options:
        yield from _braces(head + option + tail)
