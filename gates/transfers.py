"""What curl, wget, scp and rsync do to files here: what they send, and where they put what they get.

Rule kept here: a file that is sent away counts as read.
"""

from __future__ import annotations

import re

from agentgov.gates.options import has, option_value, positional
from agentgov.gates.scope import Scope, Word, plain


def rsync(words: list[Word], scope: Scope) -> None:
    """Adds what rsync reads, writes and removes here."""
    files = positional(
        words[1:],
        {"-e", "--exclude", "--include", "--rsh", "-f", "--filter", "--exclude-from", "--files-from"},
    )
    local = [word for word in files if not re.match(r"[^/]+:", word[0])]
    if files and files[-1] in local:
        mirror = any(word[0].startswith("--del") for word in words)
        scope.touch("fs.write", files[-1], recursive=True, exact=False)
        if mirror:
            scope.touch("fs.delete", files[-1], recursive=True)
    emptied = any(item[0] == "--remove-source-files" for item in words)
    for word in files[:-1]:
        if not re.match(r"[^/]+:", word[0]):
            scope.touch("fs.read", word, recursive=True)
            if emptied:
                scope.touch("fs.delete", word, recursive=True)


def fetch(words: list[Word], scope: Scope) -> None:
    """Adds what curl and wget read to send it, and what they write."""
    for target in _downloads(words, is_wget=words[0][0].endswith("wget")):
        scope.touch("fs.write", target)
    for word in words[1:]:
        value = word[0]
        at = (
            value.partition("@")[2]
            if re.match(r"(?:@|\w+=@)", value)
            else value.removeprefix("file://")
            if value.startswith("file:/")
            else ""
        )
        if at:
            scope.touch("fs.read", (at.split(";")[0],))
    upload = (
        option_value(words[1:], "-T", "--upload-file")
        if words[0][0].endswith("curl")
        else option_value(words[1:], "--post-file", "--body-file")
    )
    if upload is not None:
        scope.touch("fs.read", upload)
    config = option_value(words[1:], "-K", "--config")
    if config is not None:
        scope.touch("fs.read", config)
        scope.opaque(" ".join(plain(word[0]) for word in words))


def _downloads(words: list[Word], *, is_wget: bool) -> list[Word]:
    """Where a download is put: the file that is named, else the last name of the address."""
    letter, names = ("O", ("--output-document",)) if is_wget else ("o", ("--output",))
    for index, word in enumerate(words[1:], 1):
        value = word[0]
        cluster = re.match(rf"-[a-zA-Z#]*{letter}(.*)", value) if not value.startswith("--") else None
        if cluster and cluster[1]:
            return [(cluster[1],)]
        if (cluster or value in names) and index + 1 < len(words):
            return [words[index + 1]]
        if value.startswith(tuple(f"{name}=" for name in names)):
            return [(value.partition("=")[2],)]
    if not is_wget and not has(words[1:], "O", "--remote-name", "--remote-name-all"):
        return []
    folder = option_value(words[1:], *(("-P", "--directory-prefix") if is_wget else ("--output-dir",)))
    start = f"{folder[0].rstrip('/')}/" if folder else ""
    last = [value.split("?")[0].rsplit("/", 1)[-1] for word in words[1:] for value in word if "://" in value]
    return [(start + name,) for name in last if name]


def remote_copy(words: list[Word], scope: Scope) -> None:
    """Adds what scp reads and writes here."""
    files = positional(words[1:], {"-i", "-P", "-o", "-F", "-l", "-c", "-S", "-J"})
    recursive = has(words[1:], "r")
    for word in files[:-1]:
        if not re.match(r"[^/]+:", word[0]):
            scope.touch("fs.read", word, recursive=recursive)
    if files and not re.match(r"[^/]+:", files[-1][0]):
        scope.touch("fs.write", files[-1])
