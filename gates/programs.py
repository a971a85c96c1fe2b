"""What the usual file programs do to the paths they are given.

Rule kept here: a program is listed when it changes or reveals files. For one that is not, the arguments that
name an existing
file or look like a path count as read, so that a secret is not revealed by the next pager nobody listed.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH112, PTH118, PTH119, PTH120
from __future__ import annotations

import os
import re
from collections.abc import Callable

from agentgov.gates import finding, patching, transfers
from agentgov.gates.effect import names
from agentgov.gates.options import has, option_value, positional
from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.places import is_under
from agentgov.gates.scope import Feed, Scope, Word, plain

Handler = Callable[[list[Word], Scope], None]
_RECURSIVE_READERS = frozenset({"cp", "tar", "rsync", "zip", "scp", "7z"})
_READERS = names(
    "cat head tail less more bat tac nl od xxd hexdump strings base64 base32 openssl gpg age diff cmp "
    "paste cut sort uniq wc fold rev "
    "grep egrep fgrep rg ag jq yq view column comm join look pr tr envsubst iconv zcat xzcat zless zgrep "
    "ack batcat pygmentize glow"
)
_NAMERS = names(
    "ls ll la stat file du df tree readlink realpath basename dirname cd test [ which type whereis "
    "ssh-add ssh-keygen ssh ssh-copy-id "
    "echo printf man export kill ps date sleep mkdir touch id whoami uname hostname seq yes true false "
    "lsof getfacl namei md5sum sha256sum "
    "sha1sum cksum shasum gh glab code open xdg-open pgrep pkill mount umount sync apt apt-get brew dnf "
    "yum apk pacman"
)
_VALUE_OPTIONS = {
    "cp": {"-t", "--target-directory", "-S"}, "mv": {"-t", "--target-directory", "-S"},
    "ln": {"-t", "--target-directory", "-S"},
    "install": {"-m", "-o", "-g", "-t", "--mode", "--owner", "--group", "--target-directory"},
    "truncate": {"-s", "-r", "--size", "--reference"}, "shred": {"-n", "-s", "--iterations", "--size"},
    "touch": {"-d", "-r", "-t", "--date", "--reference"}, "mkdir": {"-m", "--mode"},
    "split": {"-b", "-l", "-n", "-a"},
    "head": {"-n", "-c"}, "tail": {"-n", "-c"}, "tee": set(),
    "grep": {"-e", "-m", "-A", "-B", "-C", "--include", "--exclude", "--exclude-dir"},
    "rg": {"-e", "-g", "-t", "-T", "-A", "-B", "-C", "-m", "--glob", "--type"}, "cut": {"-d", "-f", "-c"},
    "sort": {"-k", "-t", "-S", "-T"}, "openssl": {"-out", "-keyout", "-subj", "-days", "-passin", "-passout"},
    "chmod": {"--reference"}, "chown": {"--reference", "--from"}, "sed": {"-l"}, "jq": {"--arg", "--argjson"},
}  # fmt: skip


def read(program: str, words: list[Word], scope: Scope) -> bool:
    """Adds what a listed program does to its paths; False when it is not listed."""
    handler = _HANDLERS.get(program)
    if handler is not None:
        handler(words, scope)
    elif finding.is_find(words):
        _find(words, scope)
    elif program in _READERS:
        _read_files(program, words, scope)
    else:
        return False
    return True


def read_arguments(program: str, words: list[Word], scope: Scope) -> None:
    """Counts path-like arguments of an unknown program as read."""
    if program in _NAMERS:
        return
    if program in ("docker", "podman") and [word[0] for word in words[1:2]] == ["compose"]:
        # It reads `.env` without being told to, and gives it to containers only.
        words = [
            word for before, word in zip([("",), *words], words, strict=False) if before[0] != "--env-file"
        ]
    mounts = program in ("docker", "podman", "nerdctl")
    for word in words[1:]:
        for value in word:
            path = value.partition("=")[2] if value.startswith("-") else value
            path = path.partition(":")[0] if mounts else path
            if (
                path
                and " " not in path
                and "://" not in path
                and ("/" in path or path.startswith(".") or "." in path)
            ):
                scope.touch("fs.read", (path.lstrip("@"),))


def _read_files(program: str, words: list[Word], scope: Scope) -> None:
    files = positional(words[1:], _VALUE_OPTIONS.get(program, set()))
    if program in ("grep", "egrep", "fgrep", "rg", "ag", "jq", "yq", "tr", "ack", "zgrep") and not has(
        words[1:], "ef", "--regexp", "--file"
    ):
        files = files[1:]
    recursive = has(words[1:], "rR", "--recursive") or program in ("rg", "ag", "ack")
    for word in files:
        scope.touch("fs.read", word, recursive=recursive)
    if recursive:
        for option in ("--include", "-g", "--glob"):
            only = option_value(words[1:], option)
            for value in only or ():
                scope.touch("fs.read", tuple(f"{folder}/{value}" for word in files for folder in word))
    if program == "gpg" and any(word[0].startswith("--export-secret") for word in words[1:]):
        scope.touch("fs.read", (f"{scope.places.home}/.gnupg/private-keys-v1.d",), recursive=True)
    output = (
        option_value(words[1:], "-o", "--output", "-out")
        if program in ("sort", "openssl", "gpg", "age", "base64")
        else None
    )
    if output is not None:
        scope.touch("fs.write", output)
    for word in words[1:]:
        if word[0].startswith("-in=") or (program == "openssl" and word[0].startswith("file:")):
            scope.touch("fs.read", (word[0].split("=", 1)[-1].removeprefix("file:"),))


def _remove(words: list[Word], scope: Scope) -> None:
    recursive = has(words[1:], "rR", "--recursive") or words[0][0].endswith(
        ("trash", "gio", "rimraf", "del-cli", "srm")
    )
    for word in positional(words[1:], {"-n", "-s"} if words[0][0].endswith("shred") else set()):
        if word[0] == "trash" and words[0][0].endswith("gio"):
            continue
        scope.touch("fs.delete", word, recursive=recursive)


def _shred(words: list[Word], scope: Scope) -> None:
    for word in positional(words[1:], _VALUE_OPTIONS["shred"]):
        scope.touch("fs.delete", word)


def _targets(words: list[Word]) -> tuple[list[Word], list[Word]]:
    # (sources, destination) of cp, mv, install and ln.
    program = words[0][0].rsplit("/", 1)[-1]
    files = positional(words[1:], _VALUE_OPTIONS.get(program, set()))
    folder = option_value(words[1:], "-t", "--target-directory")
    if folder is not None:
        return files, [folder]
    return files[:-1], files[-1:]


def _write_into(sources: list[Word], destination: Word, scope: Scope) -> None:
    scope.touch("fs.write", destination)
    for value in destination:
        if value.endswith("/") or any(os.path.isdir(path) for path, _ in scope.expand(value)):
            for source in sources:
                for item in source:
                    name = os.path.basename(item.rstrip("/"))
                    scope.touch("fs.write", (f"{value.rstrip('/')}/{name}",))


def _move(words: list[Word], scope: Scope) -> None:
    sources, destination = _targets(words)
    for source in sources:
        scope.touch("fs.delete", source, recursive=True)
        # Under its new name, nothing says any more what it is.
        scope.touch("fs.read", source, recursive=True)
    for target in destination:
        _write_into(sources, target, scope)


def _copy(words: list[Word], scope: Scope) -> None:
    sources, destination = _targets(words)
    recursive, linked = (
        has(words[1:], "rRa", "--recursive", "--archive"),
        has(words[1:], "l", "--link"),
    )
    for source in sources:
        scope.touch("fs.read", source, recursive=recursive)
        if linked:
            scope.touch("fs.write", source)
    for target in destination:
        _write_into(sources, target, scope)


def _link(words: list[Word], scope: Scope) -> None:
    sources, destination = _targets(words)
    if not sources:
        sources, destination = destination, [(".",)]
    symbolic = has(words[1:], "s", "--symbolic")
    for target in destination:
        _write_into(sources, target, scope)
        for source in sources:
            if not symbolic:
                # Another name for the same file: what is written to it later is written to the file.
                scope.touch("fs.write", source, exact=False)
                scope.touch("fs.read", source)
                continue
            scope.touch("fs.read", source, exact=False)
            _note_link(source, target, scope)


def _note_link(source: Word, target: Word, scope: Scope) -> None:
    for value in target:
        for path, _ in scope.expand(value):
            link = os.path.normpath(path)
            for item in source:
                for folder in scope.folders:
                    base = folder if os.path.isdir(link) else os.path.dirname(link)
                    real = os.path.normpath(os.path.join(base, item))
                    name = (
                        os.path.join(link, os.path.basename(item.rstrip("/")))
                        if os.path.isdir(link)
                        else link
                    )
                    if not is_under(real, name):
                        scope.links[name] = real


def _tee(words: list[Word], scope: Scope) -> None:
    for word in positional(words[1:], set()):
        scope.touch("fs.write", word)


def _write_all(words: list[Word], scope: Scope) -> None:
    program = words[0][0].rsplit("/", 1)[-1]
    files = positional(words[1:], _VALUE_OPTIONS.get(program, set()))
    if program in ("chmod", "chown", "chgrp", "chattr", "setfacl") and not has(words[1:], "", "--reference"):
        files = files[1:]
    recursive = has(words[1:], "R", "--recursive")
    for word in files:
        scope.touch("fs.write", word, recursive=recursive)


def _sed(words: list[Word], scope: Scope) -> None:
    scripts = [value for value in (option_value(words[1:], "-e", "--expression"),) if value is not None]
    files = positional(words[1:], {"-e", "-f", "-l", "--expression", "--file"})
    if not scripts and option_value(words[1:], "-f", "--file") is None:
        scripts, files = files[:1], files[1:]
    for script in scripts:
        text = plain(script[0])
        if (
            re.search(r"(?:^|[;}\n\d/$,!{])\s*e(?:\s|$|;)|/[gIpm0-9]*e[gIpm0-9]*\s*(?:$|;)|UNKNOWN", text)
            or UNKNOWN in text
        ):
            scope.opaque(" ".join(plain(word[0]) for word in words))
        for match in re.finditer(r"(?:^|[;}\n/gIpm0-9])\s*[wW]\s+([^\n;}]+)", text):
            scope.touch("fs.write", (match[1].strip(),))
    in_place = has(words[1:], "i", "--in-place")
    for word in files:
        scope.touch("fs.write" if in_place else "fs.read", word)


def _dd(words: list[Word], scope: Scope) -> None:
    for word in words[1:]:
        for value in word:
            if value.startswith("of="):
                scope.touch("fs.write", (value[3:],))
            elif value.startswith("if="):
                scope.touch("fs.read", (value[3:],))


def _find(words: list[Word], scope: Scope) -> None:
    from agentgov.gates.commands import run_words

    scope.run(plain(word[0]) for word in words)
    expression = finding.roots_of(words)[1]
    flat = [plain(word[0]) for word in expression]
    if "-delete" in flat:
        for word, recursive in finding.selected_by(words, scope):
            scope.touch("fs.delete", word, recursive=recursive)
    for index, value in enumerate(flat):
        if value in ("-fprint", "-fprint0", "-fls", "-fprintf") and index + 1 < len(flat):
            scope.touch("fs.write", expression[index + 1])
        if value in ("-exec", "-execdir", "-ok", "-okdir"):
            stop = next(
                (at for at in range(index + 1, len(flat)) if flat[at] in (";", "+", r"\;")), len(flat)
            )
            inner = expression[index + 1 : stop]
            chosen = finding.selected_by(words, scope)
            paths = tuple(item for word, _ in chosen for item in word)
            if not paths:
                continue
            if inner and inner[0][0].rsplit("/", 1)[-1] in _READERS:
                for word, recursive in chosen:
                    scope.touch("fs.read", word, recursive=recursive)
            given = [
                tuple(part.replace("{}", path) for part in word for path in paths)
                if "{}" in word[0]
                else word
                for word in inner
            ]
            run_words(given, _whole(scope), Feed(), {}, " ".join(flat))


def _whole(scope: Scope) -> Scope:
    return scope.fork(deeper=True)


def _tar(words: list[Word], scope: Scope) -> None:
    first = words[1][0] if len(words) > 1 else ""
    mode = first.lstrip("-") if not first.startswith("--") else first
    folder = option_value(words[1:], "-C", "--directory", "--cd")
    archive = option_value(words[1:], "-f", "--file") or (
        words[2] if "f" in mode and len(words) > 2 else None
    )
    bundled = not first.startswith("-") and "c" in first
    creating = bundled or has(words[1:], "c", "--create")
    files = [
        word
        for word in positional(words[1:], {"-C", "-f", "--exclude"})
        if word not in (archive, (first,), folder)
    ]
    if creating:
        if archive is not None:
            scope.touch("fs.write", archive)
        if folder is not None:
            scope = scope.fork()
            scope.enter(path for value in folder for path, _ in scope.expand(value))
        emptied = any(item[0] == "--remove-files" for item in words)
        for word in files:
            scope.touch("fs.read", word, recursive=True)
            if emptied:
                scope.touch("fs.delete", word, recursive=True)
    elif "x" in mode or "--extract" in (word[0] for word in words):
        # What an archive holds is not read: only its folder, and the members that are named.
        scope.touch("fs.write", folder or (".",))
        for word in files:
            for start in folder or (".",):
                scope.touch("fs.write", tuple(f"{start}/{value}" for value in word), recursive=True)
        if any(item[0] == "--recursive-unlink" for item in words):
            scope.touch("fs.delete", folder or (".",), recursive=True, exact=False)


def _seven_zip(words: list[Word], scope: Scope) -> None:
    if len(words) < 2 or words[1][0] not in ("a", "u"):
        _unpack(words, scope)
        return
    files = positional(words[2:], set())
    for word in files[:1]:
        scope.touch("fs.write", word)
    emptied = any(word[0] == "-sdel" for word in words)
    for word in files[1:]:
        scope.touch("fs.delete" if emptied else "fs.read", word, recursive=True)


def _unpack(words: list[Word], scope: Scope) -> None:
    scope.touch("fs.write", option_value(words[1:], "-d") or (".",))


def _compress(words: list[Word], scope: Scope) -> None:
    kept = has(words[1:], "kc", "--keep", "--stdout")
    recursive = has(words[1:], "r", "--recursive")
    for word in positional(words[1:], {"-S"}):
        scope.touch("fs.read" if kept else "fs.delete", word, recursive=recursive)


def _zip(words: list[Word], scope: Scope) -> None:
    files = positional(words[1:], {"-x", "-i", "-P", "-b"})
    for word in files[:1]:
        scope.touch("fs.write", word)
    moved = has(words[1:], "m", "--move")
    for word in files[1:]:
        scope.touch("fs.read", word, recursive=True)
        if moved:
            scope.touch("fs.delete", word, recursive=True)


def read_patch(words: list[Word], scope: Scope, feed: Feed) -> None:
    """Adds what `patch` would write."""
    named = option_value(words[1:], "-i", "--input")
    files = positional(words[1:], {"-p", "-i", "-d", "-o", "-r", "-F", "--input", "--directory"})
    for word in files[:1]:
        scope.touch("fs.write", word)
    patching.apply([named] if named else files[1:2], words[1:], scope, feed)


_HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(names("rm rmdir unlink srm trash trash-put rimraf gio del-cli wipe grm"), _remove),
    **dict.fromkeys(names("Remove-Item ri del erase rd"), _remove),
    "shred": _shred, "mv": _move, "gmv": _move, "cp": _copy, "gcp": _copy, "install": _copy, "ln": _link,
    "tee": _tee, "sponge": _tee, "sed": _sed, "gsed": _sed,
    **dict.fromkeys(names("truncate chmod chown chgrp touch mkdir chattr setfacl mkfifo mkfs"), _write_all),
    "dd": _dd, "rsync": transfers.rsync,
    "tar": _tar, "gtar": _tar, "bsdtar": _tar, "unzip": _unpack, "zip": _zip,
    **dict.fromkeys(("7z", "7za", "7zz"), _seven_zip),
    **dict.fromkeys(("gzip", "bzip2", "xz", "zstd", "gunzip", "bunzip2", "unxz", "lz4"), _compress),
    "curl": transfers.fetch, "wget": transfers.fetch, "scp": transfers.remote_copy,
}  # fmt: skip
