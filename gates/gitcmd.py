"""What a git command line does: to files, to remotes, and to what it runs itself.

Rules kept here:
- Global options are looked through (`-C`, `--git-dir`, `-c`); settings that make git run a program are read
  as commands.
- Commands that change the whole work tree are inexact: git itself never touches `.git` that way.
- A push that can drop commits from a remote carries the fact "force-push"; deleting or mirroring counts.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
from __future__ import annotations

import os
import re

from agentgov.gates import patching
from agentgov.gates.options import has, option_value, positional
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import Feed, Scope, Word, plain

_GLOBAL_WITH_VALUE = {
    "-C",
    "-c",
    "--git-dir",
    "--work-tree",
    "--namespace",
    "--exec-path",
    "--super-prefix",
    "--config-env",
    "--attr-source",
}
_COMMAND_SETTING = re.compile(
    r"(?:alias\..+|core\.(?:pager|editor|sshcommand|fsmonitor|askpass|gitproxy)|pager\..+|sequence\.editor|diff\.external|"
    r"(?:diff|difftool|mergetool|merge|filter|browser|man|web|interactive)\..*(?:cmd|command|textconv|driver|clean|smudge|process|path|difffilter)|"
    r"credential\..*helper|credential\.helper|gpg\..*program|gpg\.program|uploadpack\.packobjectshook|remote\..*(?:uploadpack|receivepack|vcs)|"
    r"ssh\.variant|init\.templatedir|trailer\..*(?:command|cmd)|sendemail\..*cmd)",
    re.IGNORECASE,
)
_TRUST_SETTING = re.compile(
    r"(?:core\.(?:hookspath|worktree|attributesfile|excludesfile|bare|repositoryformatversion|fsync.*)|include(?:if)?\..*|extensions\..*|"
    r"safe\..*|receive\..*|transfer\..*|protocol\..*|url\..*|gpg\.ssh\..*|user\.signingkey|http\..*proxy|remote\..*\.(?:url|pushurl|mirror|push))",
    re.IGNORECASE,
)
_ONLY_LOOKING = ("--check", "--stat", "--numstat", "--summary", "--cached", "--abort", "--skip", "--quit")
_FORCING_SETTING = re.compile(r"remote\..*\.(?:push=\+.*|mirror=(?!false|0|no|off).*)", re.IGNORECASE)
_REMOTE_COMMANDS = frozenset(
    {"push", "fetch", "pull", "clone", "ls-remote", "archive", "remote", "submodule"}
)


def read(words: list[Word], scope: Scope, feed: Feed) -> None:
    """Adds the effects of a git command line."""
    inner = scope.fork()
    forces = False
    rest = words[1:]
    while rest and rest[0][0].startswith("-"):
        option = plain(rest[0][0])
        name, equals, attached = option.partition("=")
        value = (
            (attached,) if equals else rest[1] if option in _GLOBAL_WITH_VALUE and len(rest) > 1 else ("",)
        )
        if option in ("--help", "--version", "-h", "-v"):
            break
        if name == "-C" or name == "--work-tree":
            inner.enter(path for item in value for path, _ in inner.expand(item))
        elif name == "-c":
            _setting(plain(value[0]), inner)
            forces = forces or _FORCING_SETTING.fullmatch(plain(value[0])) is not None
        elif name in ("--exec-path", "--config-env") and value != ("",):
            inner.opaque(" ".join(plain(word[0]) for word in words))
        rest = rest[2:] if not equals and option in _GLOBAL_WITH_VALUE else rest[1:]
    if not rest:
        scope.run(plain(word[0]) for word in words)
        return
    command, arguments = plain(rest[0][0]), rest[1:]
    if UNKNOWN in command:
        scope.opaque(" ".join(plain(word[0]) for word in words))
    facts = _push_facts(arguments) if command in ("push", "send-pack") else ()
    if command == "push" and forces:
        facts = ("force-push",)
    scope.run(("git", command, *(plain(word[0]) for word in arguments)), facts)
    handler = _HANDLERS.get(command)
    if handler is not None:
        handler(arguments, inner)
    if command in _REMOTE_COMMANDS:
        _hosts(arguments, inner)
    if command in ("apply", "am") and not has(arguments, "", *_ONLY_LOOKING):
        patching.apply(positional(arguments, {"-p", "-C", "--directory"}), arguments, inner, feed)
    _commands_inside(command, arguments, inner, feed)


def _setting(setting: str, scope: Scope) -> None:
    from agentgov.gates.shell import read_shell

    name, _, value = setting.partition("=")
    if _COMMAND_SETTING.fullmatch(name):
        text = value.removeprefix("!")
        if name.lower().startswith("alias.") and not value.startswith("!"):
            text = "git " + value
        read_shell(text, scope.fork(deeper=True))
    elif re.fullmatch(r"core\.hookspath|include(?:if)?\..*", name, re.IGNORECASE):
        scope.opaque("git -c " + setting)


def _push_facts(arguments: list[Word]) -> tuple[str, ...]:
    if has(
        arguments,
        "",
        "--force",
        "--force-with-lease",
        "--force-if-includes",
        "--mirror",
        "--delete",
        "--prune",
    ):
        return ("force-push",)
    long_prefixes = ("--forc", "--mirr", "--dele", "--prun", "--del", "--mir", "--pru")
    for word in arguments:
        for value in word:
            if value.startswith(long_prefixes):
                return ("force-push",)
            if re.fullmatch(r"-[a-zA-Z]*[fd][a-zA-Z]*", value) and not value.startswith("-o"):
                return ("force-push",)
    refspecs = positional(arguments, {"-o", "--push-option", "--repo", "--receive-pack", "--exec"})[1:]
    if any(value.startswith(("+", ":")) and value not in ("+", ":") for word in refspecs for value in word):
        return ("force-push",)
    return ()


def _hosts(arguments: list[Word], scope: Scope) -> None:
    from agentgov.gates.netcmd import connect_url, remote_of

    for word in arguments:
        for value in word:
            if value.startswith("ext::"):
                scope.opaque(value)
            elif "://" in value:
                connect_url(value, scope)
            elif not value.startswith(("-", "+", ":")) and "@" in value:
                remote_of(value, scope)


def _commands_inside(command: str, arguments: list[Word], scope: Scope, feed: Feed) -> None:
    from agentgov.gates.commands import run_words
    from agentgov.gates.shell import read_shell

    texts: list[Word] = []
    if command == "rebase":
        texts += [word for word in (option_value(arguments, "-x", "--exec"),) if word]
    elif command == "submodule" and any(word[0] == "foreach" for word in arguments):
        rest = arguments[[word[0] for word in arguments].index("foreach") + 1 :]
        texts.append((" ".join(plain(word[0]) for word in positional(rest, set())),))
    elif command == "bisect" and arguments and arguments[0][0] == "run":
        run_words(arguments[1:], scope.fork(deeper=True), feed)
    elif command in ("filter-branch", "filter-repo"):
        for word in arguments:
            texts += [word] if " " in word[0] else []
    elif command in ("difftool", "mergetool"):
        texts += [word for word in (option_value(arguments, "-x", "--extcmd"),) if word]
    elif command in ("push", "fetch", "pull", "clone", "ls-remote"):
        names = (
            ("--receive-pack", "--upload-pack", "--exec", "-u")
            if command != "push"
            else ("--receive-pack", "--exec")
        )
        for name in names:
            value = option_value([word for word in arguments if not re.fullmatch(r"-u.+", word[0])], name)
            texts += [value] if (value and "/" in value[0]) or (value and " " in value[0]) else []
        for word in arguments:
            if word[0] in ("-c", "--config"):
                _setting(plain((option_value(arguments, "-c", "--config") or ("",))[0]), scope)
    elif command == "grep":
        pager = next((word[0][2:] for word in arguments if word[0].startswith("-O")), "")
        texts += [(pager.removeprefix("=") or "",)] if pager else []
    for word in texts:
        inner = scope.fork(deeper=True)
        if command == "submodule":
            inner.enter(f"{folder}/{UNKNOWN}" for folder in scope.folders)
        read_shell(plain(word[0]).replace(UNKNOWN, "$UNKNOWN_"), inner)


def _paths_after_dashes(arguments: list[Word]) -> list[Word]:
    flat = [word[0] for word in arguments]
    return arguments[flat.index("--") + 1 :] if "--" in flat else []


def _pathspec(word: Word, scope: Scope) -> Word:
    # Pathspec magic (":/", ":(top)...", ":!...") can mean anything from the top down.
    return tuple(scope.places.workspace if value.startswith(":") else value for value in word)


def _rm(arguments: list[Word], scope: Scope) -> None:
    if has(arguments, "n", "--dry-run", "--cached"):
        return
    recursive = has(arguments, "r")
    for word in positional(arguments, {"--pathspec-from-file"}):
        scope.touch("fs.delete", _pathspec(word, scope), recursive=recursive or word[0].startswith(":"))


def _mv(arguments: list[Word], scope: Scope) -> None:
    files = positional(arguments, set())
    for word in files[:-1]:
        scope.touch("fs.delete", word, recursive=True)
    for word in files[-1:]:
        scope.touch("fs.write", word)


def _clean(arguments: list[Word], scope: Scope) -> None:
    if has(arguments, "n", "--dry-run") or not has(arguments, "f", "--force"):
        return
    for word in positional(arguments, {"-e", "--exclude"}) or [(".",)]:
        scope.touch("fs.delete", _pathspec(word, scope), recursive=True, exact=False)


def _restore(arguments: list[Word], scope: Scope) -> None:
    if has(arguments, "S", "--staged") and not has(arguments, "W", "--worktree"):
        return
    for word in positional(arguments, {"-s", "--source"}):
        scope.touch("fs.write", _pathspec(word, scope), recursive=True, exact=not word[0].startswith(":"))


def _checkout(arguments: list[Word], scope: Scope) -> None:
    after = _paths_after_dashes(arguments)
    if after:
        paths = after
    else:
        names = positional(arguments, {"-b", "-B", "--orphan", "-t"})
        existing = [word for word in names if any(os.path.lexists(path) for path, _ in scope.expand(word[0]))]
        paths = existing if not has(arguments, "bB", "--orphan") else []
        if has(arguments, "f", "--force"):
            paths = [(".",)]
    for word in paths:
        # A path that was written out is meant; the whole tree is not `.git`.
        scope.touch("fs.write", _pathspec(word, scope), recursive=True, exact=not word[0].startswith(":"))


def _reset(arguments: list[Word], scope: Scope) -> None:
    if has(arguments, "", "--hard", "--merge", "--keep"):
        scope.touch("fs.write", (".",), recursive=True, exact=False)


def _read_tree(arguments: list[Word], scope: Scope) -> None:
    if has(arguments, "u"):
        scope.touch("fs.write", (".",), recursive=True, exact=False)


def _stash(arguments: list[Word], scope: Scope) -> None:
    if arguments and arguments[0][0] in ("list", "show", "drop", "clear", "branch", "create", "store"):
        return
    paths = _paths_after_dashes(arguments)
    if not paths and arguments[:1] == [("push",)]:
        paths = positional(arguments[1:], {"-m", "--message", "--pathspec-from-file"})
    if not paths and has(arguments, "au", "--all", "--include-untracked"):
        paths = [(".",)]
    # Without a path, what is stashed is what the agent changed, and what is popped was stashed.
    for word in paths:
        scope.touch("fs.write", _pathspec(word, scope), recursive=True, exact=False)


def _whole_tree_delete(arguments: list[Word], scope: Scope) -> None:
    if arguments and arguments[0][0] in ("set", "init"):
        scope.touch("fs.delete", (".",), recursive=True, exact=False)


def _worktree(arguments: list[Word], scope: Scope) -> None:
    if arguments and arguments[0][0] in ("remove", "move"):
        for word in positional(arguments[1:], set())[:1]:
            scope.touch("fs.delete", word, recursive=True)
    elif arguments and arguments[0][0] == "add":
        for word in positional(arguments[1:], {"-b", "-B"})[:1]:
            scope.touch("fs.write", word)


def _submodule(arguments: list[Word], scope: Scope) -> None:
    if arguments and arguments[0][0] == "deinit":
        for word in positional(arguments[1:], set()) or [(".",)]:
            scope.touch("fs.delete", word, recursive=True, exact=bool(positional(arguments[1:], set())))


def _config(arguments: list[Word], scope: Scope) -> None:
    rest = [
        word for word in arguments if word[0] not in ("set", "unset", "get", "list", "--add", "--replace-all")
    ]
    names = positional(rest, {"-f", "--file", "--blob", "--type"})
    reading = has(arguments, "l", "--get", "--get-all", "--list", "--get-regexp") or arguments[:1] in (
        [("get",)],
        [("list",)],
    )
    unset = has(arguments, "", "--unset", "--unset-all", "--remove-section", "--rename-section") or arguments[
        :1
    ] == [("unset",)]
    edit = has(arguments, "e", "--edit")
    writing = edit or unset or len(names) > 1
    if reading or not writing:
        return
    named = plain(names[0][0]) if names else ""
    trusted = edit or UNKNOWN in named or _TRUST_SETTING.fullmatch(named) or _COMMAND_SETTING.fullmatch(named)
    file = option_value(arguments, "-f", "--file")
    if file is not None:
        scope.touch("fs.write", file)
    elif trusted:
        scope.touch(
            "fs.write",
            ("~/.gitconfig".replace("~", scope.places.home or UNKNOWN),)
            if has(arguments, "", "--global")
            else (".git/config",),
        )


def _show(arguments: list[Word], scope: Scope) -> None:
    beyond = "--no-index" in (item[0] for item in arguments)
    for word in arguments:
        output = option_value([word], "--output")
        if output is not None:
            scope.touch("fs.write", output)
        if not word[0].startswith("-"):
            if beyond:
                scope.touch("fs.read", word)
            else:
                _show_committed(word, scope)


def _show_committed(word: Word, scope: Scope) -> None:
    # `HEAD:.env` and `:.env` print the file of that name as it was.
    for value in word:
        _, colon, path = value.partition(":")
        if colon and path and "://" not in value:
            scope.touch("fs.read", (path,))


def _cat_file(arguments: list[Word], scope: Scope) -> None:
    for word in positional(arguments, set()):
        _show_committed(word, scope)


def _hash_object(arguments: list[Word], scope: Scope) -> None:
    for word in positional(arguments, {"-t", "--path"}):
        scope.touch("fs.read", word)


def _update_ref(arguments: list[Word], scope: Scope) -> None:
    for word in positional(arguments, {"-m"}):
        for value in word:
            if value.startswith("refs/agentgov/"):
                scope.touch("fs.write", (f"{scope.places.workspace}/.git/agentgov/{value}",))


def _init(arguments: list[Word], scope: Scope) -> None:
    # A template's hooks are copied into a repository that is there already.
    if option_value(arguments, "--template") is not None:
        scope.touch("fs.write", (".git/hooks/",))


def _add(arguments: list[Word], scope: Scope) -> None:
    for word in positional(arguments, {"--chmod", "--pathspec-from-file"}):
        scope.touch("fs.read", word)


def _clone(arguments: list[Word], scope: Scope) -> None:
    files = positional(
        arguments, {"-b", "--branch", "--depth", "-o", "-c", "--reference", "--template", "-j", "--filter"}
    )
    for word in files[1:2]:
        scope.touch("fs.write", word)


_HANDLERS = {
    "rm": _rm, "mv": _mv, "clean": _clean, "restore": _restore, "checkout": _checkout, "reset": _reset,
    "stash": _stash,
    "sparse-checkout": _whole_tree_delete, "worktree": _worktree, "submodule": _submodule,
    "config": _config, "diff": _show, "show": _show, "log": _show, "add": _add, "stage": _add,
    "clone": _clone, "cat-file": _cat_file, "hash-object": _hash_object, "init": _init,
    "read-tree": _read_tree, "update-ref": _update_ref, "symbolic-ref": _update_ref,
}  # fmt: skip
