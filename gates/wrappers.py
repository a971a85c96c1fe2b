"""Commands that run another command: the wrapper is taken off and the rest is read.

Rule kept here: the list is a convenience. `read_inner` looks into the arguments of every program that is not
known, so that a
wrapper missing here still does not hide a program that can destroy.
"""

from __future__ import annotations

import re

from agentgov.gates.effect import names
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import Feed, Scope, Word, plain

# How many plain words a wrapper takes before the command, and which of its options take a value.
_WRAPPERS: dict[str, tuple[int, frozenset[str]]] = {
    name: (count, names(options))
    for name, count, options in (
        ("sudo", 0, "-u -g -p -h -C -D -R -T -U --user --group --prompt --host --chdir --chroot"),
        ("doas", 0, "-u -C"),
        ("env", 0, "-u -C --unset --chdir"),
        ("nohup", 0, ""),
        ("setsid", 0, ""),
        ("nice", 0, "-n --adjustment"),
        ("ionice", 0, "-c -n -p --class --classdata"),
        ("chrt", 1, "-T -P -D"),
        ("taskset", 1, ""),
        ("numactl", 0, "-C -N -m -l"),
        ("timeout", 1, "-s -k --signal --kill-after"),
        ("gtimeout", 1, "-s -k"),
        ("time", 0, "-f -o --format --output"),
        ("command", 0, ""),
        ("builtin", 0, ""),
        ("exec", 0, "-a"),
        ("coproc", 0, ""),
        ("stdbuf", 0, "-i -o -e"),
        ("unbuffer", 0, ""),
        ("strace", 0, "-e -o -p -s -u -E -P"),
        ("ltrace", 0, "-e -o -p -s -u"),
        ("flock", 1, "-w -E --timeout"),
        ("chroot", 1, ""),
        ("unshare", 0, ""),
        ("nsenter", 0, "-t"),
        ("fakeroot", 0, "-l -s -i -b"),
        ("faketime", 1, ""),
        ("busybox", 0, ""),
        ("toybox", 0, ""),
        ("caffeinate", 0, "-t -w"),
        ("arch", 0, ""),
        ("catchsegv", 0, ""),
        ("xvfb-run", 0, "-n -s -e -f -p -w"),
        ("dbus-run-session", 0, ""),
        ("systemd-run", 0, "-p -u --unit --property --uid --gid"),
        ("npx", 0, "-p --package"),
        ("pnpx", 0, ""),
        ("bunx", 0, ""),
        ("direnv", 2, ""),
        ("dotenv", 0, "-f -e"),
        ("op", 1, ""),
        ("watch", 0, "-n --interval"),
        ("entr", 0, ""),
        ("parallel", 0, "-j --jobs"),
        ("rtk", 0, ""),
    )
}
_SUBCOMMAND_WRAPPERS = {
    "uv": ("run",), "poetry": ("run",), "pipenv": ("run",), "hatch": ("run",), "rye": ("run",),
    "pdm": ("run",),
    "bundle": ("exec",), "npm": ("exec", "x"), "pnpm": ("exec", "dlx"), "yarn": ("exec", "dlx"),
    "conda": ("run",),
    "mise": ("exec", "x"), "asdf": ("exec",), "rbenv": ("exec",), "pyenv": ("exec",),
    "nix": ("run", "shell", "develop"),
    "coverage": ("run",), "op": ("run",), "doppler": ("run",), "aws-vault": ("exec",),
}  # fmt: skip
_TEXT_OPTIONS = {
    "su": ("-c", "--command"), "script": ("-c", "--command"), "nix-shell": ("--run", "--command"), "tmux": (),
    "screen": (),
    "runuser": ("-c", "--command"), "sg": ("-c",), "flock": ("-c", "--command"), "watch": (), "parallel": (),
    "at": (),
    "env": ("-S", "--split-string"), "rg": ("--pre",),
    "tar": ("--to-command", "--use-compress-program", "-I", "--checkpoint-action"),
    "rsync": ("-e", "--rsh", "--rsync-path"), "zip": ("-TT", "--unzip-command"), "fzf": ("--preview",),
    "gdb": ("-ex",),
    "sort": ("--compress-program",), "split": ("--filter",), "man": ("-P", "--pager"), "less": (),
    "make": ("SHELL",),
    "ssh": ("-o",), "scp": ("-o",), "entr": (), "nodemon": ("--exec", "-x"), "watchexec": (),
    "concurrently": (), "wget": ("--use-askpass",),
}  # fmt: skip
_DESTROYERS = names(
    "rm rmdir unlink shred srm mv dd truncate tee cp install rsync ln chmod chown chgrp find fd fdfind "
    "xargs git sh bash dash zsh ksh "
    "eval python python3 perl ruby node php sed sudo curl wget ssh mkfs terraform kubectl"
)
_TALKERS = names(
    "echo printf man which whereis type info help apropos whatis gh glab jq grep egrep fgrep rg ag ack "
    "pgrep pkill killall apt apt-get "
    "brew dnf yum apk pip pip3 pipx pacman snap port cargo go rustup gem notify-send say tldr dpkg rpm "
    "hash ls ll cat head tail wc "
    "docker podman nerdctl dpkg-query locate ps basename dirname test expr logger wall mail history "
    "compgen complete"
)
_COMMAND_OPTIONS = re.compile(
    r"(?:-c|-e|-x|--?exec|--command|--cmd|--run|--eval|--shell-command|--pre|--filter|--on-[a-z]+)"
)
_PLACEHOLDERS = ("{}", "{/}", "{.}", "{//}")


def unwrap(program: str, words: list[Word], scope: Scope, feed: Feed) -> bool:
    """Reads the command inside a wrapper; False when `program` is none."""
    _read_texts(program, words, scope)
    if program == "xargs":
        _xargs(words, scope, feed)
        return True
    if program in ("fd", "fdfind"):
        return _fd(words, scope, feed)
    skip = 0
    if program in _SUBCOMMAND_WRAPPERS:
        if len(words) < 2 or words[1][0] not in _SUBCOMMAND_WRAPPERS[program]:
            return False
        rest, options = words[2:], frozenset({"--with", "-p", "--python", "-n", "--project", "--package"})
    elif program in _WRAPPERS:
        if program == "command" and any(word[0] in ("-v", "-V") for word in words[1:2]):
            return True
        skip, options = _WRAPPERS[program]
        rest = words[1:]
    else:
        return False
    environment: dict[str, Word] = {}
    while rest:
        value = rest[0][0]
        if value == "--":
            rest = rest[1:]
        elif value.startswith("-"):
            if program == "env" and value in ("-C", "--chdir") and len(rest) > 1:
                scope = scope.fork()
                scope.enter(path for item in rest[1] for path, _ in scope.expand(item))
            rest = rest[2:] if value in options else rest[1:]
        elif re.match(r"[A-Za-z_]\w*=", value):
            name, _, rest_value = value.partition("=")
            environment[name] = (rest_value,)
            rest = rest[1:]
        elif skip:
            skip -= 1
            rest = rest[1:]
        else:
            break
    if program in ("watch", "parallel", "entr") and rest:
        _text(" ".join(plain(word[0]) for word in rest), scope)
    if rest:
        _run(rest, scope, feed, environment)
    return True


def _run(words: list[Word], scope: Scope, feed: Feed, environment: dict[str, Word] | None = None) -> None:
    from agentgov.gates.commands import run_words

    inner = scope.fork(deeper=True)
    run_words(words, inner, feed, environment or {}, " ".join(plain(word[0]) for word in words))


def _text(text: str, scope: Scope) -> None:
    from agentgov.gates.shell import read_shell

    read_shell(text.replace(UNKNOWN, "$UNKNOWN_"), scope.fork(deeper=True))


def _read_texts(program: str, words: list[Word], scope: Scope) -> None:
    """Reads option values that are shell text."""
    options = _TEXT_OPTIONS.get(program)
    if options is None:
        return
    for index, word in enumerate(words[1:], 1):
        value = plain(word[0])
        name, equals, attached = value.partition("=")
        is_cluster = "-c" in options and re.fullmatch(r"-[a-zA-Z]*c", value) is not None
        if (value in options or is_cluster) and index + 1 < len(words):
            _option_text(plain(words[index + 1][0]), scope)
        elif equals and name in options:
            _option_text(attached, scope)
        elif not options and " " in value:
            _text(value, scope)


def _option_text(value: str, scope: Scope) -> None:
    for marker in ("ProxyCommand=", "LocalCommand=", "exec="):
        if marker in value:
            value = value.split(marker, 1)[1]
    _text(value, scope)


def _xargs(words: list[Word], scope: Scope, feed: Feed) -> None:
    with_value = {
        "-I",
        "-n",
        "-P",
        "-L",
        "-d",
        "-a",
        "-s",
        "-E",
        "--max-args",
        "--max-procs",
        "--arg-file",
        "--delimiter",
    }
    rest, placeholder = words[1:], None
    while rest and rest[0][0].startswith("-"):
        option = rest[0][0]
        if (option in ("-a", "--arg-file") and len(rest) > 1) or option.startswith("--arg-file="):
            scope.touch("fs.read", rest[1] if "=" not in option else (option.partition("=")[2],))
        if option == "-I" and len(rest) > 1:
            placeholder = rest[1][0]
        elif option.startswith("-I"):
            placeholder = option[2:]
        elif option == "-i" or option.startswith("--replace"):
            placeholder = option.partition("=")[2] or "{}"
        rest = rest[2:] if option in with_value else rest[1:]
    if not rest:
        return
    given = tuple(feed.text.split()) if feed.text is not None else feed.words
    inner = scope.fork(exact=feed.text is not None or feed.is_listing)
    if feed.text is None and not feed.words:
        given = (UNKNOWN,)
    if placeholder is None:
        _run([*rest, *((value,) for value in given)], inner, Feed())
        return
    for value in given or (UNKNOWN,):
        _run([tuple(item.replace(placeholder, value) for item in word) for word in rest], inner, Feed())


def _fd(words: list[Word], scope: Scope, feed: Feed) -> bool:
    for index, word in enumerate(words):
        if word[0] in ("-x", "-X", "--exec", "--exec-batch"):
            given = tuple(item[0] for item in words[1:index] if not item[0].startswith("-"))
            found = (*given, ".")
            inner = [found if item[0] in _PLACEHOLDERS else item for item in words[index + 1 :]]
            if found not in inner:
                inner.append(found)
            _run(inner, scope.fork(exact=False), feed)
            return True
    return False


def read_inner(arguments: list[Word], scope: Scope, feed: Feed, program: str = "") -> None:
    """Reads the arguments of an unknown program as a command, from the first word that could destroy."""
    if program in _TALKERS:
        return
    for index, word in enumerate(arguments):
        value = plain(word[0])
        if value.rsplit("/", 1)[-1] in _DESTROYERS:
            _run(arguments[index:], scope.fork(exact=False), feed)
            return
        name, equals, attached = value.partition("=")
        if equals and _COMMAND_OPTIONS.fullmatch(name):
            _text(attached, scope.fork(exact=False))
        elif _COMMAND_OPTIONS.fullmatch(value) and index + 1 < len(arguments):
            text = plain(arguments[index + 1][0])
            if " " in text and text.split()[0].rsplit("/", 1)[-1] in _DESTROYERS:
                _text(text, scope.fork(exact=False))
