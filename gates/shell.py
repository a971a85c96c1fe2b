"""Reads a shell command line with tree-sitter-bash and collects what it would do.

Rules kept here:
- Every command reached through pipes, lists, substitutions, loops, functions, here-documents and subshells is
  read; the branches
  of an `if` or `||` all count.
- A text that does not parse is opaque as a whole, and what can be read of it is still judged.
- This is a guard rail, not a boundary: a determined program gets around any reading of its text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.printing import decoded, filtered, listed
from agentgov.gates.scope import MAX_DEPTH, STAR, Feed, Scope, Word, is_known, plain
from agentgov.gates.words import fields, mask, text_of

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAX_TEXT_BYTES = 256 * 1024
SMALL_TEXT_BYTES = 4 * 1024
PARSE_SECONDS = 1.0
NO_FEED = Feed()
_WRITES = (">", ">>", ">|", "&>", "&>>", "<>", ">&")
_EXTGLOB = re.compile(r"(?<=[\s\w/.])[!@?*+]\([^()\s]*\)")
_LISTING = frozenset({"echo", "printf"})


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def _parsed(raw: bytes) -> Node | None:
    """The syntax tree; None when the parser takes too long: its way out of errors can take quadratic time."""
    parser = _parser()
    if len(raw) > SMALL_TEXT_BYTES:
        end = time.monotonic() + PARSE_SECONDS
        try:
            parser.parse(
                lambda offset, _: raw[offset : offset + 65_536],
                progress_callback=lambda *_: time.monotonic() > end,
            )
        except ValueError:
            parser.reset()
            return None
    # Nodes of a text that was handed over whole give their own text much faster.
    return parser.parse(raw).root_node


def read_shell(text: str, scope: Scope, feed: Feed = NO_FEED) -> None:
    """Adds the effects of a command line to the scope, which afterwards holds the state it leaves."""
    raw = mask(text)
    if scope.depth > MAX_DEPTH or len(raw) > MAX_TEXT_BYTES or b"\x00" in raw:
        scope.opaque(text)
        return
    root = _parsed(raw)
    if root is None or root.has_error:
        scope.opaque(text)
        # The grammar lacks extended globs; read as "*" they stand for more than they are, never for less.
        widened = _EXTGLOB.sub("*", text)
        if widened != text:
            root = _parsed(mask(widened))
    if root is None:
        return
    Interpreter(feed).statements(root, scope)


class Interpreter:
    """Walks statements; `feed` is what their standard input holds."""

    def __init__(self, feed: Feed = NO_FEED) -> None:
        self.feed = feed

    def statements(self, node: Node, scope: Scope) -> None:
        """Reads the children of a block, one after the other."""
        for child in node.named_children:
            self.statement(child, scope)

    def statement(self, node: Node, scope: Scope) -> None:
        """Reads one statement."""
        if node.type == "variable_assignment" and text_of(node).startswith("IFS="):
            # From here on unquoted words are split in another way than they are read.
            scope.opaque(text_of(node))
        handler = getattr(self, "_on_" + node.type, None)
        if handler is not None:
            handler(node, scope)
        elif node.type not in ("comment", "heredoc_body", "heredoc_end", "heredoc_start"):
            self._nested(node, scope)

    # -- compound statements -----------------------------------------------------------------------

    def _nested(self, node: Node, scope: Scope) -> None:
        # Whatever the statement is: read what it holds, and evaluate words for their substitutions.
        for child in node.named_children:
            if child.type in (
                "string",
                "concatenation",
                "command_substitution",
                "expansion",
                "process_substitution",
            ):
                fields(child, scope, self.substitute)
            else:
                self.statement(child, scope)

    def _on_word(self, node: Node, scope: Scope) -> None:
        return

    def _on_list(self, node: Node, scope: Scope, last: Callable[[Node, Scope], None] | None = None) -> None:
        """Reads commands joined by && and ||; `last`, if given, reads the last of them."""
        operators = [child.type for child in node.children if not child.is_named]
        first, *rest = node.named_children
        before = scope.fork()
        self.statement(first, scope)
        for operator, child in zip(operators or [";"] * len(rest), rest, strict=False):
            read = last if last is not None and child == rest[-1] else self.statement
            if operator == "||":
                branch = scope.fork()
                branch.join(before)
                read(child, branch)
                scope.join(branch)
            else:
                read(child, scope)

    def _on_subshell(self, node: Node, scope: Scope) -> None:
        self.statements(node, scope.fork())

    def _on_pipeline(self, node: Node, scope: Scope) -> None:
        self._pipe(node.named_children, scope, self.feed)

    def _pipe(self, stages: list[Node], scope: Scope, feed: Feed) -> None:
        for stage in stages:
            if stage.type == "comment":
                continue
            inner = scope.fork()
            start = len(scope.effects)
            reader = Interpreter(feed)
            reader.statement(stage, inner)
            feed = reader.output(stage, inner, feed, start)

    def output(self, node: Node, scope: Scope, feed: Feed, start: int) -> Feed:
        """What a stage most likely prints: the text of an echo, else the paths and words it names."""
        words = list(feed.words)
        target = node
        while target.type == "redirected_statement" and target.child_by_field_name("body") is not None:
            body = target.child_by_field_name("body")
            assert body is not None  # noqa: S101
            target = body
        argv = self._argv(target, scope.fork()) if target.type == "command" else []
        flat = [value for word in argv for value in word]
        if flat and flat[0] in _LISTING:
            shown = [word[0] for word in argv[1:]]
            while shown and re.fullmatch(r"-[neE]+", shown[0]):
                del shown[0]
            known = all(len(word) == 1 and is_known(word[0]) for word in argv)
            text = plain(" ".join(shown)).replace("\\n", "\n") if known else None
            return Feed(
                text, tuple(dict.fromkeys((*words, *(part for item in shown for part in item.split()))))
            )
        if flat and flat[0].rsplit("/", 1)[-1] == "mktemp" and "-p" not in flat:
            return Feed("/tmp/tmp.made-here")  # noqa: S108
        if flat and flat[0].rsplit("/", 1)[-1] == "cat" and feed.text is not None and len(argv) == 1:
            return feed
        if flat and flat[0] == "base64" and feed.text is not None and len(argv) == 2:
            text = decoded(feed.text) if flat[1] in ("-d", "-D", "--decode", "-di") else None
            if text is not None:
                return Feed(text, tuple(text.split()))
        from agentgov.gates.finding import is_find, listed_by

        if argv and is_find(argv):
            found, looked_up = listed_by(argv, scope)
            return Feed(None, tuple(dict.fromkeys((*words, *found))), True, looked_up and not words)
        program = flat[0].rsplit("/", 1)[-1] if flat else ""
        given = [value for value in flat[1:] if not value.startswith("-")]
        if program in ("ls", "dir", "vdir"):
            given = [name for value in given or [STAR] for name in listed(value, scope)]
        if program in ("grep", "egrep") and feed.words and len(given) == 1:
            return Feed(None, filtered(feed.words, given[0], inverted="-v" in flat), True)
        words += given
        fetched = any(effect.action == "net.connect" for effect in scope.effects[start:])
        return Feed(None, tuple(dict.fromkeys(words)), fetched or bool(flat) or feed.is_opaque)

    def _on_if_statement(self, node: Node, scope: Scope) -> None:
        for child in node.named_children:
            branch = scope.fork()
            self.statement(child, branch)
            scope.join(branch)

    _on_case_statement = _on_if_statement

    def _on_case_item(self, node: Node, scope: Scope) -> None:
        for child in node.named_children:
            if child.type not in ("word", "extglob_pattern", "string", "concatenation"):
                self.statement(child, scope)

    def _on_while_statement(self, node: Node, scope: Scope) -> None:
        branch = scope.fork()
        self.statements(node, branch)
        scope.join(branch)

    def _on_for_statement(self, node: Node, scope: Scope) -> None:
        variable = node.child_by_field_name("variable")
        body = node.child_by_field_name("body")
        values: list[str] = []
        for child in node.children_by_field_name("value"):
            for word in fields(child, scope, self.substitute):
                values += word
        if variable is not None:
            scope.assign(text_of(variable), tuple(dict.fromkeys(values)) or (UNKNOWN,))
        if body is not None:
            branch = scope.fork()
            self.statements(body, branch)
            scope.join(branch)

    def _on_function_definition(self, node: Node, scope: Scope) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            scope.functions[text_of(name)] = body
        for redirect in node.children_by_field_name("redirect"):
            self._redirect(redirect, scope, self.feed)

    def _on_negated_command(self, node: Node, scope: Scope) -> None:
        self.statements(node, scope)

    def _on_variable_assignment(self, node: Node, scope: Scope) -> None:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return
        values: Word = ("",)
        if value is not None and value.type == "array":
            words = [word for child in value.named_children for word in fields(child, scope, self.substitute)]
            values = tuple(dict.fromkeys(item for word in words for item in word))
        elif value is not None:
            words = fields(value, scope, self.substitute)
            values = words[0] if len(words) == 1 else (" ".join(word[0] for word in words),)
        if any(child.type == "+=" for child in node.children):
            before = scope.variables.get(text_of(name), ("",))
            values = tuple(f"{old}{new}" for old in before for new in values)
        scope.assign(text_of(name), values)

    def _on_declaration_command(self, node: Node, scope: Scope) -> None:
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._on_variable_assignment(child, scope)
            else:
                # `export $(...)`: what it names is not followed, what it runs is read.
                fields(child, scope, self.substitute)

    def _on_test_command(self, node: Node, scope: Scope) -> None:
        self._nested(node, scope)

    # -- redirects ---------------------------------------------------------------------------------

    def _on_redirected_statement(self, node: Node, scope: Scope) -> None:
        self._redirected(node.child_by_field_name("body"), node.children_by_field_name("redirect"), scope)

    def _redirected(self, body: Node | None, redirects: Sequence[Node], scope: Scope) -> None:
        if body is not None and body.type == "list":
            # The grammar puts the redirects of a list's last command around the list: in `cd a && b > c`
            # the file lies in `a`.
            self._on_list(body, scope, lambda child, inner: self._redirected(child, redirects, inner))
            return
        feed = self.feed
        followers: list[Node] = []
        for redirect in redirects:
            feed, after = self._redirect(redirect, scope, feed)
            followers += after
        inner = Interpreter(feed)
        if body is not None:
            start = len(scope.effects)
            inner.statement(body, scope)
            if followers:
                self._pipe(followers, scope, inner.output(body, scope, feed, start))

    def _on_file_redirect(self, node: Node, scope: Scope) -> None:
        self._redirect(node, scope, self.feed)

    def _redirect(self, node: Node, scope: Scope, feed: Feed) -> tuple[Feed, list[Node]]:
        if node.type == "heredoc_redirect":
            return self._heredoc(node, scope)
        if node.type == "herestring_redirect":
            words = fields(node.named_children[-1], scope, self.substitute)
            value = words[0][0]
            return Feed(plain(value) if is_known(value) else None, tuple(value.split())), []
        operator = next((child.type for child in node.children if not child.is_named), ">")
        for child in node.children_by_field_name("destination"):
            for word in fields(child, scope, self.substitute):
                if operator in _WRITES and not (operator == ">&" and word[0].strip("-").isdigit()):
                    scope.touch("fs.write", word)
                elif operator == "<":
                    scope.touch("fs.read", word)
                    feed = Feed(None, (), True, files=word)
        return feed, []

    def _heredoc(self, node: Node, scope: Scope) -> tuple[Feed, list[Node]]:
        text, followers = "", []
        for child in node.named_children:
            if child.type == "heredoc_body":
                text = text_of(child)
                self._nested(child, scope)
            elif child.type in ("file_redirect", "herestring_redirect"):
                self._redirect(child, scope, self.feed)
            elif child.type == "pipeline":
                followers += child.named_children
            elif child.type in ("heredoc_start", "heredoc_end", "file_descriptor"):
                continue
            elif child.type in ("word", "string", "concatenation", "raw_string"):
                # Arguments after `<<EOF` belong to the command before it; its words are read there.
                fields(child, scope, self.substitute)
            else:
                self.statement(child, scope)
        return Feed(text, tuple(text.split()[:64])), followers

    # -- commands ----------------------------------------------------------------------------------

    def _argv(self, node: Node, scope: Scope) -> list[Word]:
        words: list[Word] = []
        for child in node.named_children:
            if child.type in (
                "variable_assignment",
                "file_redirect",
                "herestring_redirect",
                "heredoc_redirect",
            ):
                continue
            if child.type == "command_name":
                words += (
                    fields(child.named_children[0], scope, self.substitute) if child.named_children else []
                )
            else:
                words += fields(child, scope, self.substitute)
        return words

    def _on_command(self, node: Node, scope: Scope) -> None:
        from agentgov.gates.commands import run_words

        environment: dict[str, Word] = {}
        feed = self.feed
        words = self._argv(node, scope)
        saved = dict(scope.variables)
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._on_variable_assignment(child, scope)
                name = child.child_by_field_name("name")
                if name is not None:
                    environment[text_of(name)] = scope.variables[text_of(name)]
            elif child.type in ("file_redirect", "herestring_redirect", "heredoc_redirect"):
                feed, _ = self._redirect(child, scope, feed)
        if words:
            scope.variables = saved
        run_words(words, scope, feed, environment, text_of(node))

    def substitute(self, node: Node, scope: Scope) -> tuple[str | None, tuple[str, ...]]:
        """Reads `$(...)`, backquotes and `<(...)`: (what it prints when known, words it may print)."""
        inner = scope.fork(deeper=True)
        if inner.depth > MAX_DEPTH or scope.is_spent():
            scope.opaque(text_of(node))
            return None, ()
        start = len(scope.effects)
        reader = Interpreter()
        feed = NO_FEED
        for child in node.named_children:
            reader.statement(child, inner)
            stages = child.named_children if child.type == "pipeline" else [child]
            feed = NO_FEED
            for stage in stages:
                feed = reader.output(stage, inner, feed, start)
        text = None if feed.text is None else feed.text.rstrip("\n")
        return text, feed.words
