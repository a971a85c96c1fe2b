"""How much a change can break: low, medium, high or critical, from its paths, modes and size alone.

Rule kept here: the highest tier that any part of the change reaches is the tier of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Tier = Literal["low", "medium", "high", "critical"]
TIERS: tuple[Tier, ...] = ("low", "medium", "high", "critical")
MEDIUM_LINES = 200
HIGH_LINES = 1_000

_CRITICAL = re.compile(
    rb"(?:\.agentgov\.toml|\.agentgov/.*|(?:\.github/|\.gitlab/|docs/)?CODEOWNERS|\.gitattributes|\.gitmodules|\.githooks/.*|"
    rb"\.claude/(?:settings.*\.json|hooks/.*)|\.codex/(?:config\.toml|hooks.*)|\.gemini/settings\.json|\.cursor/hooks\.json|\.mcp\.json|\.husky/.*)",
    # On other machines a name in capitals is the same file.
    re.IGNORECASE,
)
_HIGH = re.compile(
    rb"(?:.*/)?(?:\.github/workflows/.*|\.github/actions/.*|\.gitlab-ci\.yml|\.circleci/.*|Jenkinsfile|azure-pipelines\.yml|\.buildkite/.*|"
    rb"migrations?/.*|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|Pipfile\.lock|Cargo\.lock|go\.sum|"
    rb"Gemfile\.lock|composer\.lock|gradle\.lockfile|auth/.*|security/.*|crypto/.*|Dockerfile[^/]*|\.pre-commit-config\.yaml)"
)
_LOW = re.compile(
    rb"(?:(?:.*/)?(?:docs?|tests?|__tests__|spec|examples?)/.*|(?:.*/)?(?:test_[^/]*|[^/]*_test\.[a-z]+|[^/]*\.(?:test|spec)\.[a-z]+)|"
    rb".*\.(?:md|rst|txt|adoc)|(?:.*/)?(?:LICENSE|NOTICE|CHANGELOG|AUTHORS)[^/]*)"
)


@dataclass(frozen=True)
class ChangedPath:
    """One path of a delta.

    Attributes:
        old_mode: git's mode before, "000000" when added.
        lines: lines added and removed; None for binary content.
    """

    path: bytes
    old_mode: str
    new_mode: str
    lines: int | None


def tier_of(changes: Iterable[ChangedPath]) -> Tier:
    """The tier of a change; one with nothing in it is low."""
    listed = list(changes)
    tier: Tier = "low"
    for change in listed:
        tier = max(tier, _tier_of_path(change), key=TIERS.index)
    total = sum(change.lines or 0 for change in listed)
    if total > HIGH_LINES:
        return max(tier, "high", key=TIERS.index)
    if sum(change.lines or 0 for change in listed if not is_docs_or_tests(change.path)) >= MEDIUM_LINES:
        return max(tier, "medium", key=TIERS.index)
    return tier


def _tier_of_path(change: ChangedPath) -> Tier:
    if _CRITICAL.fullmatch(change.path) or change.path.lower().rsplit(b"/", 1)[-1] in (
        b".gitattributes",
        b".gitmodules",
    ):
        return "critical"
    modes = {change.old_mode, change.new_mode} - {"000000"}
    if len(modes) > 1 or modes & {"120000", "160000"} or change.lines is None or _HIGH.fullmatch(change.path):
        return "high"
    if change.old_mode == "000000" and change.new_mode == "100755":
        return "high"
    return "low"


def is_docs_or_tests(path: bytes) -> bool:
    """True for a path that documents or tests."""
    return _LOW.fullmatch(path) is not None
