"""Programs that run code given as text: shells and Python are read, the others are opaque."""

from __future__ import annotations

import re

from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import Feed, Scope, Word, is_known, plain

_SHELLS = re.compile(r"(?:ba|da|z|k|a|mk|fi|r?ba)?sh")
_PYTHON = re.compile(r"(?:python|pypy|ipython)[0-9.]*(?:\.exe)?")
_CODE_OPTIONS = {
    "node": ("-e", "--eval", "-p", "--print", "-pe"), "nodejs": ("-e", "--eval", "-p"),
    "perl": ("-e", "-E", "-pe", "-ne", "-i", "-pi", "-lne"),
    "ruby": ("-e",), "php": ("-r",), "lua": ("-e",), "Rscript": ("-e",), "osascript": ("-e",),
    "deno": ("eval",), "bun": ("-e", "--eval"),
    "tclsh": (), "groovy": ("-e",), "julia": ("-e",), "pwsh": ("-c", "-Command"),
    "powershell": ("-c", "-Command"),
    "vim": ("-c",), "vi": ("-c",), "nvim": ("-c",), "ex": ("-c",), "emacs": ("--eval",), "ed": (),
    "sqlite3": ("-cmd",),
    "expect": ("-c",), "gdb": ("-ex",), "jshell": (), "irb": (), "scala": ("-e",), "elixir": ("-e",),
    "erl": ("-eval",),
}  # fmt: skip
_EDITORS = frozenset({"vim", "vi", "nvim", "ex", "ed", "emacs"})
_AWK_RUNS = re.compile(r"system\s*\(|\|\s*(?:getline|\")|>\s*\"|\|&")


def read(program: str, words: list[Word], scope: Scope, feed: Feed, raw: str) -> bool:
    """Reads code given to an interpreter; False when `program` is none."""
    if _SHELLS.fullmatch(program):
        _shell(words, scope, feed, raw)
    elif _PYTHON.fullmatch(program):
        _python(words, scope, feed, raw)
    elif program in ("awk", "gawk", "mawk", "nawk"):
        if any(_AWK_RUNS.search(plain(word[0])) for word in words[1:]):
            scope.opaque(raw)
        for word in words[1:][1:]:
            if not word[0].startswith("-"):
                scope.touch("fs.read", word)
    elif program in ("make", "gmake") and (feed.text is not None or feed.is_opaque):
        # A makefile on standard input is a script nobody can read here.
        scope.opaque(f"{raw}\n{feed.text or ''}")
    elif program in _CODE_OPTIONS:
        options = _CODE_OPTIONS[program]
        code = any(
            plain(word[0]) in options
            or any(word[0].startswith(option if len(option) == 2 else f"{option}=") for option in options)
            for word in words[1:]
        ) or (
            program in ("perl", "ruby")
            and any(re.fullmatch(r"-[a-zA-Z0-9.]*[eE]", word[0]) for word in words[1:])
        )
        edits = program in _EDITORS
        no_file = not [word for word in words[1:] if not word[0].startswith("-")]
        piped = no_file and (feed.text is not None or feed.is_opaque)
        if code or piped:
            scope.opaque(raw + ("\n" + feed.text if feed.text else ""))
        in_place = program in ("perl", "ruby") and any(
            re.match(r"-[a-zA-Z0]*i", word[0]) for word in words[1:]
        )
        for word in words[1:]:
            if not word[0].startswith(("-", "+")) and not (code and " " in word[0]):
                scope.touch("fs.write" if in_place else "fs.read", word, exact=in_place or edits)
                if edits:
                    scope.touch("fs.write", word)
    else:
        return False
    return True


def _shell(words: list[Word], scope: Scope, feed: Feed, raw: str) -> None:
    from agentgov.gates.commands import run_script
    from agentgov.gates.shell import read_shell

    index, code = 1, False
    while index < len(words) and words[index][0].startswith(("-", "+")) and words[index][0] != "-":
        option = words[index][0]
        if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", option):
            code = True
        if option in ("-o", "+o", "-O", "--rcfile", "--init-file"):
            index += 1
        index += 1
        if option == "--":
            break
    rest = words[index:]
    inner = scope.fork(deeper=True)
    if code and rest:
        for position, word in enumerate(rest[1:]):
            inner.variables[str(position)] = word
        inner.assign("@", tuple(value for word in rest[2:] for value in word))
        for value in rest[0]:
            if not is_known(value):
                scope.opaque(raw)
            read_shell(plain(value).replace(UNKNOWN, "$UNKNOWN_"), inner, feed)
    elif rest and rest[0][0] not in ("-", "/dev/stdin"):
        for position, word in enumerate(rest):
            inner.variables[str(position)] = word
        for value in rest[0]:
            run_script(value, inner)
    elif feed.text is not None:
        read_shell(feed.text, inner)
    elif feed.is_opaque or feed.words or rest:
        scope.opaque(raw + " " + " ".join(feed.words))


def _python(words: list[Word], scope: Scope, feed: Feed, raw: str) -> None:
    from agentgov.gates.pycode import read_python

    index = 1
    while index < len(words) and words[index][0].startswith("-") and words[index][0] != "-":
        option = words[index][0]
        if re.fullmatch(r"-[a-zA-Z]*c", option) and index + 1 < len(words):
            for value in words[index + 1]:
                if is_known(value):
                    read_python(plain(value), scope)
                else:
                    scope.opaque(raw)
            return
        attached = re.match(r"-[bBdEhiIOqsSuvVx]*c(.+)", option, re.DOTALL)
        if attached:
            read_python(plain(attached[1]), scope)
            return
        if option == "-m":
            _module(words[index + 1 :], scope, feed, raw)
            return
        index += 2 if option in ("-W", "-X") else 1
    if index >= len(words) or words[index][0] == "-":
        if feed.text is not None:
            read_python(feed.text, scope)
        elif feed.is_opaque or feed.words:
            scope.opaque(raw)
        return
    for value in words[index]:
        scope.touch("fs.read", (value,), exact=False)
        for path in scope.absolute(value):
            if scope.places.names_of(path, scope.links)[0] in scope.made:
                scope.opaque(raw)
    for word in words[index + 1 :]:
        if "/" in word[0] or word[0].startswith("."):
            scope.touch("fs.read", word)


def _module(words: list[Word], scope: Scope, feed: Feed, raw: str) -> None:
    from agentgov.gates.commands import run_words

    # `python -m coverage run x`, `python -m pytest`: a module is a program of that name.
    if words and words[0][0] not in ("timeit", "pdb", "code", "this"):
        run_words(words, scope.fork(deeper=True), feed, {}, raw)
    elif words:
        scope.opaque(raw)
