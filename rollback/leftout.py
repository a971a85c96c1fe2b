"""What a snapshot leaves out on purpose, and how it says so.

Rules: nothing is left out silently: every name that a snapshot could not or would not capture, and that is
not ignored, is listed with a reason and its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from agentgov.rollback.ignore import PatternList

Reason = Literal["changing", "git-name", "secret", "special", "too-deep", "too-large", "unreadable"]
REASONS: frozenset[str] = frozenset(get_args(Reason))

DEFAULT_MAX_FILE_BYTES = 64 << 20

# In gitignore form, so that a later line can take a name back.
DEFAULT_SECRETS = (
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "!.env.dist",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "!id_*.pub",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    ".htpasswd",
    "credentials",
    "credentials.json",
    "service-account*.json",
    "**/.aws/config",
    "**/.docker/config.json",
    "**/.kube/config",
)


class Skip(NamedTuple):
    """A name that is not in the snapshot although it is in the workspace.

    Attributes:
        path: Relative to the root.
        reason: Why.
        size: In bytes, when it is known.
    """

    path: bytes
    reason: Reason
    size: int | None


class SecretNames:
    """Which untracked files are left out because their name says that they hold a secret."""

    def __init__(self, patterns: Sequence[str]) -> None:
        text = "\n".join(patterns) + "\n"
        self._patterns = PatternList(text.encode("utf-8", "surrogateescape"), ignore_case=True)

    def holds(self, path: bytes, name: bytes) -> bool:
        """Return whether the file `path`, whose last component is `name`, belongs to the secret set."""
        return self._patterns.decide(path, name, False) is True
