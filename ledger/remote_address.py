"""The address of a remote: how git reaches it, and how it may be shown.

Rules: a kind of address that is not known, and one that starts a program (`ext::`), is refused; what may be
secret in an address (password, token, query) is never shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agentgov.errors import UsageError
from agentgov.text import printable

_SCHEME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://")
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_PROTOCOLS: Final = {
    "file": "file",
    "git": "git",
    "git+ssh": "ssh",
    "http": "http",
    "https": "https",
    "ssh": "ssh",
    "ssh+git": "ssh",
}


def protocol_of(url: str) -> str:
    """Return git's name for the transport of an address: file, git, http, https or ssh.

    Raises:
        UsageError: AG0481, when it is another one or starts a program.
    """
    scheme = _SCHEME.match(url)
    if scheme is not None:
        protocol = _PROTOCOLS.get(scheme[1].lower())
    elif _HELPER.match(url) or url.startswith("-") or not url:
        protocol = None
    else:
        # As git decides: a colon before the first slash is a host of ssh.
        colon, slash = url.find(":"), url.find("/")
        protocol = "ssh" if colon > 0 and (slash < 0 or colon < slash) else "file"
    if protocol is None:
        raise UsageError(
            f"an address of this kind is not used to send the record: {redacted(url)}",
            id="AG0481",
            hint="use an https, ssh or file address: git remote set-url NAME URL",
        )
    return protocol


def redacted(url: str) -> str:
    """Return an address without what may be secret in it: password, token, query; printable."""
    scheme = _SCHEME.match(url)
    if scheme is not None:
        host, slash, path = url[scheme.end() :].partition("/")
        user, at, host = host.rpartition("@")
        # A token may stand where the user's name does; over ssh the name is part of the address.
        if at and scheme[1].lower() not in ("http", "https"):
            host = f"{user.partition(':')[0]}@{host}"
        url = f"{scheme[0]}{host}{slash}{re.split('[?#]', path)[0]}"
    return printable(url, limit=300)


def absolute(url: str, base: Path) -> str:
    """Return an address that means the same from any folder; `base` is what a relative path starts from."""
    if _SCHEME.match(url) or protocol_of(url) != "file":
        return url
    return str(base / url)
