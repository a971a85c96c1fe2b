"""The table of docs/threat-model.md, cell by cell: what each mechanism alone says of each attack.

The first three columns add up: entries alone, with their signatures, with the signed heads in the record.
Each of the others adds to these three what one more mechanism remembers, and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.clock import FixedClock
from agentgov.errors import ExitCode
from agentgov.git import Git, discover
from agentgov.layout import StateHome
from agentgov.ledger.anchor_store import read_anchors
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.pins import Pin
from agentgov.ledger.seal import SealStore
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import Trust
from agentgov.ledger.witness import Memory, WitnessKey, witness_record
from tests.support.ledgers import MemorySource
from tests.support.threats import ATTACKS, Scene, alone, pairs_of, set_scene

PAGE = Path(__file__).resolve().parents[2] / "docs" / "threat-model.md"
Known = Callable[[Scene, MemorySource], Report]


def _table() -> dict[str, dict[str, str]]:
    section = PAGE.read_text().split("\n## What each mechanism detects\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line[:1] == "|"
    ]
    names = rows[0][1:]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows[2:]}


TABLE = _table()
COLUMNS = list(TABLE["edit"])
CELLS = [(attack, column) for attack in TABLE for column in COLUMNS]


def _frontier(source: MemorySource, size: int) -> tuple[Frontier, bytes]:
    frontier, leaf = Frontier(), b""
    for line, _ in [pair for part in pairs_of(source) for pair in part][:size]:
        leaf = leaf_hash(line)
        frontier.append(leaf)
    return frontier, leaf


def _trust(scene: Scene, pin_size: int | None = None) -> Trust:
    """The log key is known in every column: whose record it is, is another question."""
    trust = scene.prepared.trust
    assert trust.public_key is not None
    if pin_size is None:
        return Trust(None, trust.public_key)
    honest = scene.source()
    frontier, leaf = _frontier(honest, pin_size)
    log = f"agentgov/{honest.stream}"
    pin = Pin(log, trust.public_key, frontier.size, frontier.root().hex(), leaf.hex(), 1)
    return Trust(pin, trust.public_key)


def _witnessed(scene: Scene) -> list[Anchor]:
    """The last saved head, cosigned by a witness in the repository, and read from there."""
    prepared = scene.prepared
    repository = discover(prepared.repo)
    key = WitnessKey.generate("witness.example.org", lambda size: b"w" * size)
    tip = SealStore(Git(repository.common_dir), prepared.stream_id, repository.object_format).newest()
    assert tip is not None
    memory = Memory(prepared.state.root / "witness")
    witness_record(repository, prepared.stream_id, tip, key, memory, clock=FixedClock(1, 1))
    policy = Policy.parse(f"witness w {key.public.text()}\nquorum w\n".encode())
    anchors, problems = read_anchors(repository, prepared.stream_id, policy, None)
    assert problems == []
    assert [anchor.size for anchor in anchors] == [sum(seal.count() for seal in scene.source().seals_)]
    return anchors


def _stamped(scene: Scene) -> list[Anchor]:
    """The last saved head, as an authority saw it; the stamps themselves have tests of their own."""
    honest = scene.source()
    size = sum(seal.count() for seal in honest.seals_)
    return [Anchor("timestamp", size, _frontier(honest, size)[0].root(), "authority", 1)]


def _pinned(scene: Scene, source: MemorySource, size: int) -> Report:
    return verify_ledger(source, trust=_trust(scene, size))


VERIFIERS: dict[str, Known] = {
    "chain": lambda scene, source: verify_ledger(alone(source), trust=_trust(scene), structure=True),
    "signature": lambda scene, source: verify_ledger(alone(source), trust=_trust(scene)),
    "local checkpoint": lambda scene, source: verify_ledger(source, trust=_trust(scene)),
    "pin in the middle": lambda scene, source: _pinned(scene, source, scene.source().seals_[0].count()),
    "pin at the tail": lambda scene, source: _pinned(scene, source, sum(map(len, pairs_of(scene.source())))),
    "witness": lambda scene, source: verify_ledger(source, trust=_trust(scene), anchors=_witnessed(scene)),
    "time stamp": lambda scene, source: verify_ledger(source, trust=_trust(scene), anchors=_stamped(scene)),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("threats")
    repos, states = (root / "one", root / "two"), (StateHome(root / "s1"), StateHome(root / "s2"))
    for repo, state in zip(repos, states, strict=True):
        subprocess.run(["git", "init", "-q", "-b", "main", str(repo)], check=True)
        person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *person, "commit", "-q", "--allow-empty", "-m", "x"], cwd=repo, check=True)
        state.create()
    counter = itertools.count()

    def draw(size: int) -> bytes:
        return hashlib.shake_256(b"threats%d" % next(counter)).digest(size)

    return set_scene(repos, states, FixedClock(1_767_323_045_000_000, 1_000), draw)


def test_the_table_has_every_attack_and_every_mechanism() -> None:
    assert list(TABLE) == list(ATTACKS)
    assert list(VERIFIERS) == COLUMNS


@pytest.mark.parametrize(("attack", "column"), CELLS)
def test_each_cell_says_what_the_verifier_says(scene: Scene, attack: str, column: str) -> None:
    report = VERIFIERS[column](scene, ATTACKS[attack](scene))
    expected = re.findall(r"`([a-z-]+)`", TABLE[attack][column])
    if not expected:
        assert TABLE[attack][column] == "-"
        assert [found.code for found in report.findings] == []
        assert report.exit_code is ExitCode.OK
        return
    assert report.findings, "nothing was found"
    assert [report.findings[0].code] == expected
    assert report.exit_code is ExitCode.BROKEN
