"""Names of git objects and refs, checked without git, and the hash that makes an object's name.

Rules: nothing that came from outside reaches a git command line before it passed one of these: a name that
starts with `-` is an option to git, and a name with `..` or `@{` is an expression.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from agentgov.errors import UsageError

ObjectFormat = Literal["sha1", "sha256"]
"""How a repository names its objects."""

ZERO_OID = {"sha1": "0" * 40, "sha256": "0" * 64}
EMPTY_TREE = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# git-check-ref-format(1): rules 1, 3 to 5, 8 to 10; "@" alone cannot follow "refs/".
_BAD_IN_REF = re.compile(r"\.\.|//|@\{|/\.|\.lock(?:/|\Z)|[\x00-\x20\x7f~^:?*\[\\]|[./]\Z")
_REF_BYTES = 1024


def hash_object(kind: bytes, data: bytes, object_format: str) -> str:
    """Return the name git gives to an object of this kind ("blob", "tree", "commit", "tag") and content."""
    digest = hashlib.new(object_format, usedforsecurity=False)
    digest.update(b"%s %d\x00" % (kind, len(data)))
    digest.update(data)
    return digest.hexdigest()


def is_oid(value: str) -> bool:
    """Whether `value` is a full object name in lower-case hex."""
    return _OID.fullmatch(value) is not None


def check_oid(value: str) -> str:
    """Return `value` when it is a full object name in lower-case hex.

    Raises:
        UsageError: AG0015, when it is not.
    """
    if not is_oid(value):
        raise UsageError(f"{value!a} is not a full object name", id="AG0015")
    return value


def is_refname(value: str) -> bool:
    """Whether `value` is a full ref name, such as `refs/heads/main`."""
    return (
        value.startswith("refs/")
        and value.count("/") >= 2
        and len(value.encode("utf-8", "surrogateescape")) <= _REF_BYTES
        and not _BAD_IN_REF.search(value)
        and not any(part.startswith("-") for part in value.split("/"))
    )


def check_refname(value: str) -> str:
    """Return `value` when it is a full ref name; no part may start with `-`, which is stricter than git.

    Raises:
        UsageError: AG0016, when it is not.
    """
    if not is_refname(value):
        raise UsageError(f"{value!a} is not a full ref name such as refs/heads/main", id="AG0016")
    return value


def branch_ref(name: str) -> str:
    """Return the full ref name of a branch given as `main` or `refs/heads/main`.

    Raises:
        UsageError: AG0016, when it cannot be a branch.
    """
    return check_refname(name if name.startswith("refs/heads/") else f"refs/heads/{name}")


def short_ref(ref: str) -> str:
    """Return a ref as people write it: without `refs/heads/`, `refs/remotes/` or `refs/tags/`."""
    for prefix in ("refs/heads/", "refs/remotes/", "refs/tags/"):
        if ref.startswith(prefix):
            return ref[len(prefix) :]
    return ref
