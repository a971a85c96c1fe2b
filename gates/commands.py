"""Decides who reads a simple command: shell, wrapper, interpreter, git, file program, or nobody.

Rules kept here:
- A wrapper is taken off by finding the command inside it; for a program that is not known, any word that is a
  program which can
  destroy is read as the start of a command, so that the next wrapper nobody listed does not hide it.
- Variables that make programs run commands (`PAGER=`, `GIT_SSH_COMMAND=`) are commands.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH112, PTH113, PTH202
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agentgov.gates import gitcmd, interpreters, netcmd, programs, wrappers
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.places import is_under, real_path
from agentgov.gates.scope import MAX_DEPTH, Feed, Scope, Word, is_known, plain

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_SCRIPT_BYTES = 64 * 1024
_RUNNING_VARIABLES = re.compile(
    r"(?:[A-Z_]*PAGER|[A-Z_]*EDITOR|VISUAL|BROWSER|GIT_SSH_COMMAND|GIT_SSH|GIT_EXTERNAL_DIFF|GIT_ASKPASS|SSH_ASKPASS|"
    r"LESSOPEN|LESSCLOSE|PROMPT_COMMAND|GIT_PROXY_COMMAND|MAKE|SHELL|CC|CXX|RUSTC_WRAPPER|CARGO_BUILD_RUSTC_WRAPPER)"
)
_SOURCED_VARIABLES = frozenset({"BASH_ENV", "ENV", "ZDOTDIR", "PYTHONSTARTUP"})
_QUIET = frozenset(
    {
        "true",
        "false",
        ":",
        "pwd",
        "wait",
        "jobs",
        "exit",
        "return",
        "shift",
        "break",
        "continue",
        "hash",
        "ulimit",
        "umask",
        "test",
        "[",
    }
)


def run_words(
    words: list[Word], scope: Scope, feed: Feed, environment: Mapping[str, Word] | None = None, raw: str = ""
) -> None:
    """Adds the effects of one simple command.

    Args:
        scope: the state it is run in.
        words: its words, the name first.
        feed: what its standard input holds.
        environment: variables set just for it.
        raw: its source text, kept where it cannot be read.
    """
    _read_environment(environment or {}, scope)
    if not words or words == [("",)]:
        return
    if scope.depth > MAX_DEPTH or len(words[0]) > 8 or scope.is_spent():
        scope.opaque(raw)
        return
    for name in words[0]:
        _run_named(name, words, scope, feed, raw)


def _read_environment(environment: Mapping[str, Word], scope: Scope) -> None:
    from agentgov.gates.shell import read_shell

    for name, values in environment.items():
        for value in values:
            if _RUNNING_VARIABLES.fullmatch(name) and value:
                read_shell(plain(value), scope.fork(deeper=True))
            elif name in _SOURCED_VARIABLES:
                run_script(value, scope)
            elif name.startswith("GIT_CONFIG"):
                scope.run(("git", "config", name, value))
                scope.opaque(f"{name}={value}")
            elif name in ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "NODE_OPTIONS", "PERL5OPT", "RUBYOPT"):
                scope.opaque(f"{name}={value}")


def _run_named(raw_name: str, words: list[Word], scope: Scope, feed: Feed, raw: str) -> None:
    name = plain(raw_name)
    if not is_known(raw_name):
        # `$CMD important`: what runs cannot be known, but what it is given may be the words of a command.
        scope.opaque(raw or " ".join(plain(word[0]) for word in words))
        wrappers.read_inner(words[1:], scope, feed)
        return
    if name in scope.functions:
        _call_function(name, words, scope, feed)
        return
    if name in scope.aliases and scope.depth < MAX_DEPTH:
        first, *rest = scope.aliases[name].split() or [""]
        run_words([(first,), *((word,) for word in rest), *words[1:]], scope.fork(deeper=True), feed, {}, raw)
    program = name.rsplit("/", 1)[-1]
    if program in _QUIET:
        return
    if _builtin(program, words, scope, feed, raw):
        return
    if wrappers.unwrap(program, words, scope, feed):
        scope.run(_first(words))
        return
    if interpreters.read(program, words, scope, feed, raw):
        scope.run((program, *_first(words[1:])))
        return
    if program in ("git", "hub"):
        gitcmd.read(words, scope, feed)
        return
    netcmd.read(program, words, scope)
    if program == "patch":
        programs.read_patch(words, scope, feed)
    if programs.read(program, words, scope):
        scope.run((program, *_first(words[1:])))
        return
    scope.run((program, *_first(words[1:])))
    if "/" in name:
        run_script(raw_name, scope, only_if_script=True)
    wrappers.read_inner(words[1:], scope, feed, program)
    programs.read_arguments(program, words, scope)


def _first(words: list[Word]) -> tuple[str, ...]:
    return tuple(plain(word[0]) for word in words)


def _call_function(name: str, words: list[Word], scope: Scope, feed: Feed) -> None:
    from agentgov.gates.shell import Interpreter

    if scope.depth >= MAX_DEPTH:
        scope.opaque(name)
        return
    inner = scope.fork(deeper=True)
    rest = tuple(dict.fromkeys(value for word in words[1:] for value in word)) or ("",)
    inner.variables |= {str(index): word for index, word in enumerate(words)} | {"@": rest, "*": rest}
    Interpreter(feed).statement(cast("Node", scope.functions[name]), inner)
    scope.enter(inner.folders)


def _builtin(program: str, words: list[Word], scope: Scope, feed: Feed, raw: str) -> bool:
    from agentgov.gates.shell import read_shell

    if program in ("cd", "pushd", "chdir"):
        _change_folder(words, scope)
    elif program == "popd":
        scope.enter((*scope.folders, *scope.variables.get("OLDPWD", (UNKNOWN,))))
    elif program == "eval":
        text = " ".join(plain(word[0]) for word in words[1:])
        if UNKNOWN in text:
            scope.opaque(raw or text)
        inner = scope.fork(deeper=True)
        read_shell(text.replace(UNKNOWN, "$UNKNOWN_"), inner, feed)
        scope.enter(inner.folders)
        scope.variables = inner.variables
    elif program in ("source", "."):
        for word in words[1:2]:
            scope.touch("fs.read", word)
            for value in word:
                run_script(value, scope)
    elif program == "trap":
        for word in words[1:2]:
            read_shell(plain(word[0]).replace(UNKNOWN, "$UNKNOWN_"), scope.fork(deeper=True))
    elif program == "alias":
        for word in words[1:]:
            name, equals, body = plain(word[0]).partition("=")
            if equals:
                scope.aliases[name] = body
                read_shell(body, scope.fork(deeper=True))
                scope.run(("alias", name))
    elif program in ("read", "mapfile", "readarray"):
        for word in words[1:]:
            if not word[0].startswith("-"):
                scope.assign(word[0], tuple(dict.fromkeys((*feed.words, UNKNOWN))))
    elif program in ("export", "declare", "local", "typeset", "readonly", "set", "unset", "shopt", "getopts"):
        for word in words[1:]:
            name, equals, value = word[0].partition("=")
            if equals:
                scope.assign(name, (value,))
        if program == "set" and "--" in [word[0] for word in words]:
            rest = words[[word[0] for word in words].index("--") + 1 :]
            scope.variables |= {str(index + 1): word for index, word in enumerate(rest)}
            scope.assign("@", tuple(value for word in rest for value in word))
    else:
        return False
    return True


def _change_folder(words: list[Word], scope: Scope) -> None:
    targets = [word for word in words[1:] if not word[0].startswith("-") or word[0] == "-"]
    before = scope.folders
    values = targets[0] if targets else scope.variables.get("HOME", (UNKNOWN,))
    after: list[str] = []
    for value in values:
        if value == "-":
            after += scope.variables.get("OLDPWD", (UNKNOWN,))
            continue
        for path, _ in scope.expand(value):
            if UNKNOWN in path and not path.split(UNKNOWN)[0].strip("/"):
                after.append(UNKNOWN)
                continue
            normal = os.path.normpath(path)
            after.append(normal)
            resolved = real_path(path)
            if resolved != normal:
                after.append(resolved)
            if not os.path.isdir(path):
                # It may be made by then, or the change of folder fails and the shell goes on where it is.
                after += before
    scope.variables["OLDPWD"] = before
    scope.enter(dict.fromkeys(after))


def run_script(value: str, scope: Scope, *, only_if_script: bool = False) -> None:
    """Reads a script of the workspace that a command runs; one that cannot be read is opaque.

    What a script does counts as inferred: built-in rules do not judge it, rules of the repository do.
    """
    from agentgov.gates.shell import read_shell

    for path in scope.absolute(value):
        real = real_path(path)
        if scope.places.names_of(path, scope.links)[0] in scope.made:
            scope.opaque(plain(value))
            continue
        if not any(is_under(real, real_path(root)) for root in scope.places.roots):
            if not only_if_script:
                scope.opaque(plain(value))
            continue
        text = _script_text(real)
        if text is None or (only_if_script and not re.match(r"#!.*\b(?:ba|da|z|k)?sh\b", text)):
            if not only_if_script:
                scope.opaque(plain(value))
            continue
        inner = scope.fork(exact=False, deeper=True)
        before = len(scope.effects)
        read_shell(text, inner)
        # A script's unreadable parts are not unreadable parts of this command: their text is the script's.
        scope.effects[before:] = [
            effect for effect in scope.effects[before:] if effect.action != "exec" or not effect.opaque
        ]


def _script_text(path: str) -> str | None:
    try:
        if os.path.getsize(path) > MAX_SCRIPT_BYTES or not os.path.isfile(path):
            return None
        return Path(path).read_bytes().decode("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return None
