"""Drafts that hold, a stream in a real repository, and slow second implementations to check against."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentgov.clock import Clock, Random, SystemClock
from agentgov.git import Repository, discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.chain import NO_LEAF, leaf_hash
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.keyring import Keyring
from agentgov.ledger.stream import Stream

MakeRepo = Callable[..., Path]
GitRunner = Callable[..., str]
RUN = RunId("7kq2f")
OTHER_RUN = RunId("5bd0a")
OID = "1" * 40
NEXT_OID = "2" * 40
HASH = "a" * 64
COMMITMENT = "c" * 64


def init(path: Path, object_format: str = "sha1") -> Repository:
    """A repository without a commit: a stream needs none."""
    subprocess.run(
        ["git", "init", "-q", "-b", "main", f"--object-format={object_format}", str(path)], check=True
    )
    return discover(path)


def open_stream(
    repository: Repository,
    state: StateHome,
    clock: Clock | None = None,
    rng: Random | None = None,
    **more: Any,
) -> Stream:
    """This clone's stream."""
    return Stream.open(repository, state, clock=clock or SystemClock(), random=rng or os.urandom, **more)


def request(n: int, run: RunId = RUN, **changes: Any) -> Draft:
    """A call that is allowed and has changed nothing yet."""
    body: dict[str, Any] = {
        "actor": 0,
        "args": COMMITMENT,
        "changes": None,
        "from": OID,
        "how": "incremental",
        "n": n,
        "open": [],
        "tool": "Bash",
        "tree": OID,
        "verdict": {"decision": "allow", "policy": HASH, "rules": []},
    }
    return Draft("call.request", run, {**body, **changes})


def result(n: int, run: RunId = RUN, **changes: Any) -> Draft:
    """A call that has ended well and changed nothing."""
    body: dict[str, Any] = {
        "changes": None,
        "from": OID,
        "how": "incremental",
        "n": n,
        "open": [n],
        "output": None,
        "status": "ok",
        "took_us": 5,
        "tree": OID,
    }
    return Draft("call.result", run, {**body, **changes})


def heartbeat() -> Draft:
    """The smallest thing that either key may say."""
    return Draft("log.heartbeat", None, {})


def verify_all(entries: Sequence[SignedEntry], boundaries: Sequence[int] = ()) -> Keyring:
    """Check a whole record slowly: places, links, keys, signatures; seals ended at these sizes."""
    keyring = Keyring()
    leaf: bytes = NO_LEAF
    for seq, signed in enumerate(entries):
        assert signed.entry.line() == signed.line
        assert (signed.entry.seq, signed.entry.prev) == (seq, leaf.hex())
        if seq in boundaries:
            keyring.seal(seq)
        keyring.admit(signed)
        leaf = leaf_hash(signed.line)
    return keyring


def numbers(entries: Sequence[SignedEntry], run: RunId = RUN) -> list[int]:
    """The numbers of a run's requests, in the order of the record."""
    return [s.entry.body["n"] for s in entries if s.entry.kind == "call.request" and s.entry.run == run]


def slow_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word: MTH(D[n])."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1: PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = _largest_power_below(len(leaves))
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_root(leaves[:k])]


def slow_consistency(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.2: PROOF(m, D[n]) for 0 < m < n."""
    return _subproof(m, leaves, True)


def _subproof(m: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [slow_root(leaves)]
    k = _largest_power_below(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], whole), slow_root(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), slow_root(leaves[:k])]


def _largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k
