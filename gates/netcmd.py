"""Which hosts a command reaches, read from its addresses."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from agentgov.gates.patterns import UNKNOWN
from agentgov.gates.scope import Scope, Word, plain

_PORTS = {
    "http": 80,
    "https": 443,
    "ssh": 22,
    "git": 9418,
    "ftp": 21,
    "ftps": 990,
    "sftp": 22,
    "ws": 80,
    "wss": 443,
}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>|]+", re.IGNORECASE)
_REMOTE = re.compile(r"(?:[\w.+-]+@)?([A-Za-z0-9][\w.-]*):(?!//)(?!\\)\S*")
_FETCHERS = frozenset({"curl", "wget", "http", "https", "xh", "httpie", "aria2c", "lynx", "w3m", "links"})
_SHELL_CLIENTS = frozenset({"ssh", "mosh", "sftp", "telnet", "ftp", "nc", "ncat", "netcat", "socat", "ping"})
_OPTIONS_WITH_VALUE = {
    "ssh": "-b -c -D -E -e -F -I -i -J -L -l -m -O -o -p -Q -R -S -W -w",
    "curl": "-o -d -H -X -F -u -A -e -T -w -b -c -m --data --data-raw --data-binary --header --request "
    "--output --user --form --user-agent --max-time --connect-timeout --retry "
    "--cacert --cert --key --upload-file --write-out --cookie --json",
    "wget": "-O -o -P -U --header --output-document --post-data --timeout --tries "
    "--user-agent --directory-prefix",
}
_LOCAL = re.compile(r"(?:localhost|127\.[\d.]+|\[?::1\]?|0\.0\.0\.0)", re.IGNORECASE)


def connect_url(url: str, scope: Scope) -> None:
    """Adds the effect of reaching a URL's host; one that cannot be read is opaque."""
    try:
        parts = urlsplit(plain(url))
        host, port = parts.hostname, parts.port
    except ValueError:
        scope.opaque(plain(url))
        return
    if UNKNOWN in url.split("/", 3)[2 if "://" in url else 0]:
        scope.opaque(plain(url))
    elif host:
        scope.connect(host, port or _PORTS.get(parts.scheme.lower(), 0))


def is_local(host: str) -> bool:
    """True for names of this machine."""
    return _LOCAL.fullmatch(host) is not None


def remote_of(value: str, scope: Scope) -> bool:
    """Adds the host of `user@host:path`, the form of ssh, scp, rsync and git; False for a local path."""
    text = plain(value)
    match = _REMOTE.fullmatch(text)
    if match is None or "/" in text.split(":", 1)[0]:
        return False
    scope.connect(match[1], 22)
    return True


def read(program: str, words: list[Word], scope: Scope) -> None:
    """Adds the hosts that a command names."""
    takes_value = set(_OPTIONS_WITH_VALUE.get(program, "").split())
    plain_words: list[str] = []
    skip = False
    for word in words[1:]:
        for value in word:
            if skip:
                break
            if _URL.match(value):
                connect_url(value, scope)
            elif not value.startswith("-"):
                plain_words.append(value)
            elif match := _URL.search(value):
                connect_url(match[0], scope)
        skip = not skip and word[0] in takes_value
    if program in _FETCHERS:
        for value in plain_words:
            if (
                "://" not in value
                and not value.startswith(("@", "/"))
                and (UNKNOWN in value or re.match(r"[\w.-]+\.\w+|localhost", value))
            ):
                connect_url("http://" + value, scope)
    elif program in _SHELL_CLIENTS and plain_words:
        host = plain(plain_words[0]).rpartition("@")[2]
        if UNKNOWN in host:
            scope.opaque(host)
        else:
            scope.connect(host, 22 if program in ("ssh", "mosh", "sftp") else 0)
    elif program in ("scp", "rsync"):
        for value in plain_words:
            remote_of(value, scope)
