"""Every byte of a record, changed: each time the entry or the part it belongs to is named."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.seal import ledger_ref
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RawTail, RepositorySource, read_tail
from tests.conftest import GitRunner, MakeRepo
from tests.support.ledgers import MemorySource, Prepared, prepare

ENTRY_CODES = {"line", "order", "other-log", "signature", "key"}


@pytest.fixture
def prepared(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Prepared:
    return prepare(make_repo(), state, clock, rng)


def _flip(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def _first(report: Report) -> tuple[str, int | None]:
    assert report.findings, "nothing was found"
    return report.findings[0].code, report.findings[0].seq


def _with_seal(source: MemorySource, index: int, **parts: bytes) -> MemorySource:
    seals = list(source.seals_)
    seals[index] = replace(seals[index], **parts)  # type: ignore[arg-type]
    return replace(source, seals_=seals)


def test_each_byte_of_the_sealed_entries_is_protected(prepared: Prepared) -> None:
    source = prepared.memory()
    data = source.seals_[0].entries
    for at in range(len(data)):
        report = verify_ledger(_with_seal(source, 0, entries=_flip(data, at)), trust=prepared.trust)
        code, seq = _first(report)
        assert report.exit_code is ExitCode.BROKEN
        if data[at : at + 1] == b"\n":
            # Two lines became one, or the last has no end: the part is not of the form it must have.
            assert (code, seq) == ("seal", 0), at
        else:
            assert code in ENTRY_CODES, at
            assert seq == data[:at].count(b"\n"), at
            assert report.entries == seq


def test_bytes_of_a_later_seal_are_protected_and_what_is_before_it_holds(prepared: Prepared) -> None:
    source = prepared.memory()
    first, data = source.seals_[0].count(), source.seals_[1].entries
    for at in range(0, len(data), 5):
        report = verify_ledger(_with_seal(source, 1, entries=_flip(data, at, 2)), trust=prepared.trust)
        code, seq = _first(report)
        assert code in ENTRY_CODES | {"seal"}
        assert report.exit_code is ExitCode.BROKEN
        assert (
            report.holds()
            == f"entries 0-{report.entries - 1} hold; nothing after {report.entries - 1} can be relied on"
        )
        if code != "seal":
            assert seq == first + data[:at].count(b"\n") == report.entries


def test_each_byte_of_the_signatures_is_protected(prepared: Prepared) -> None:
    source = prepared.memory()
    data = source.seals_[0].signatures
    for at in range(len(data)):
        report = verify_ledger(_with_seal(source, 0, signatures=_flip(data, at)), trust=prepared.trust)
        expected = ("seal", 0) if data[at : at + 1] == b"\n" else ("signature", data[:at].count(b"\n"))
        assert _first(report) == expected, at


@pytest.mark.parametrize("part", ["checkpoint", "proof"])
@pytest.mark.parametrize("index", [0, 1])
def test_each_byte_of_the_signed_heads_is_protected(prepared: Prepared, part: str, index: int) -> None:
    source = prepared.memory()
    data: bytes = getattr(source.seals_[index], part)
    end = sum(seal.count() for seal in source.seals_[: index + 1])
    for at in range(len(data)):
        report = verify_ledger(_with_seal(source, index, **{part: _flip(data, at)}), trust=prepared.trust)
        assert _first(report) == ("seal", end), at
        assert report.exit_code is ExitCode.BROKEN


def test_each_byte_of_the_unsealed_entries_is_protected(prepared: Prepared, tmp_path: Path) -> None:
    source = prepared.memory()
    segment = next(iter((prepared.repo / ".git/agentgov/wal").glob("0*19")))
    data = segment.read_bytes().rstrip(b"\x00")
    folder = tmp_path / "wal"
    folder.mkdir()
    for at in range(0, len(data), 2):
        (folder / segment.name).write_bytes(_flip(data, at))
        report = verify_ledger(replace(source, tail_=read_tail(folder)), trust=prepared.trust)
        code, seq = _first(report)
        if at == len(data) - 1:
            assert (code, report.exit_code) == ("torn", ExitCode.INCOMPLETE)
            continue
        assert report.exit_code is ExitCode.BROKEN
        assert code in ENTRY_CODES, at
        assert seq == 19 + data[:at].count(b"\n"), at


def test_adding_bytes_anywhere_is_found(prepared: Prepared) -> None:
    source = prepared.memory()
    data = source.seals_[0].entries
    for at in range(0, len(data) + 1, 37):
        for extra in (b" ", b"\n", b"\x00", b"{}", b"0"):
            tampered = _with_seal(source, 0, entries=data[:at] + extra + data[at:])
            assert verify_ledger(tampered, trust=prepared.trust).exit_code is ExitCode.BROKEN, (at, extra)


def test_another_spelling_of_the_same_entry_is_refused(prepared: Prepared) -> None:
    source = prepared.memory()
    data = source.seals_[0].entries
    for old, new in (
        (b'"v":1', b'"v":1.0'),
        (b'"seq":1,', b'"seq":01,'),
        (b'"seq":1,', b'"seq":1e0,'),
        (b"claude", b"\\u0063laude"),
    ):
        assert old in data
        report = verify_ledger(_with_seal(source, 0, entries=data.replace(old, new, 1)), trust=prepared.trust)
        assert _first(report)[0] == "line"


def test_another_spelling_of_a_signature_is_refused(prepared: Prepared) -> None:
    source = prepared.memory()
    raw = source.seals_[0].signatures.split(b"\n")
    assert raw[0].endswith(b"==")
    # The last character before the padding carries four bits that mean nothing.
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(raw[0][-3]) ^ 1]
    respelled = raw[0][:-3] + bytes([last]) + b"=="
    assert base64.b64decode(respelled) == base64.b64decode(raw[0])
    tampered = _with_seal(source, 0, signatures=b"\n".join([respelled, *raw[1:]]))
    assert _first(verify_ledger(tampered, trust=prepared.trust)) == ("signature", 0)


def _verify(prepared: Prepared) -> Report:
    source = RepositorySource(discover(prepared.repo), known_stream_id=prepared.trust.stream_id)
    return verify_ledger(source, trust=prepared.trust)


@pytest.mark.parametrize("place", [3, 700, 2500])
def test_a_byte_changed_in_git_with_all_objects_written_anew_is_found(
    prepared: Prepared, git: GitRunner, place: int
) -> None:
    ref = ledger_ref(prepared.stream_id)
    shown = subprocess.run(
        ["git", "cat-file", "blob", f"{ref}:entries"], cwd=prepared.repo, capture_output=True, check=True
    ).stdout
    place %= len(shown) - 1
    blob = git(prepared.repo, "hash-object", "-w", "--stdin", input=_flip(shown, place))
    listing = git(prepared.repo, "ls-tree", ref).splitlines()
    changed = [line if not line.endswith("\tentries") else f"100644 blob {blob}\tentries" for line in listing]
    tree = git(prepared.repo, "mktree", input="\n".join(changed).encode() + b"\n")
    commit = git(prepared.repo, "commit-tree", tree, "-p", f"{ref}^", "-m", "x")
    git(prepared.repo, "update-ref", ref, commit)
    report = _verify(prepared)
    assert report.exit_code is ExitCode.BROKEN
    assert _first(report)[0] in ENTRY_CODES | {"seal"}


def _loosen(repo: Path) -> Path:
    """Make every packed object a loose one; return the folder of objects."""
    objects = repo / ".git/objects"
    for pack in list((objects / "pack").glob("*.pack")):
        aside = pack.rename(repo / ".git" / pack.name)
        for rest in (objects / "pack").glob(f"{pack.stem}.*"):
            rest.unlink()
        with aside.open("rb") as file:
            subprocess.run(["git", "unpack-objects", "-q"], cwd=repo, stdin=file, check=True)
    return objects


def test_an_object_whose_bytes_are_others_than_its_name_says_is_found(
    prepared: Prepared, git: GitRunner
) -> None:
    ref = ledger_ref(prepared.stream_id)
    oids = [git(prepared.repo, "rev-parse", f"{ref}{path}:entries") for path in ("", "^")]
    objects = _loosen(prepared.repo)
    paths = [objects / oid[:2] / oid[2:] for oid in oids]
    paths[0].chmod(0o644)
    paths[0].write_bytes(paths[1].read_bytes())
    report = _verify(prepared)
    assert _first(report)[0] == "object"
    assert report.exit_code is ExitCode.BROKEN


def test_a_missing_sealed_object_is_incomplete_and_never_ok(prepared: Prepared, git: GitRunner) -> None:
    oid = git(prepared.repo, "rev-parse", f"{ledger_ref(prepared.stream_id)}:signatures")
    (_loosen(prepared.repo) / oid[:2] / oid[2:]).unlink()
    report = _verify(prepared)
    assert _first(report)[0] == "missing"
    assert report.exit_code is ExitCode.INCOMPLETE
    assert report.level is None


def test_an_empty_tail_file_and_foreign_files_in_its_folder_do_no_harm(prepared: Prepared) -> None:
    (prepared.repo / ".git/agentgov/wal/notes.txt").write_text("x")
    assert _verify(prepared).exit_code is ExitCode.OK


def test_a_tail_that_stands_for_nothing_is_refused(prepared: Prepared) -> None:
    source = replace(prepared.memory(), tail_=RawTail([], torn=b"\x00" * 512))
    report = verify_ledger(source, trust=prepared.trust)
    assert {found.code for found in report.findings} == {"torn", "unfinished"}
    assert report.exit_code is ExitCode.INCOMPLETE
