"""Witnesses and what they leave in a repository: what counts, what is passed over, what a crash leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.clock import FixedClock, Random
from agentgov.errors import AgentgovError, BrokenRecordError, UsageError
from agentgov.git import Git, Repository
from agentgov.layout import StateHome
from agentgov.ledger import witness as witness_module
from agentgov.ledger.anchor_store import (
    own_cosigned,
    read_anchors,
    timestamp_ref,
    witness_ref,
    write_cosigned,
    write_timestamp,
)
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.cosignature import cosign
from agentgov.ledger.note import Note, NoteSignature
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.stream import Stream
from agentgov.ledger.timestamps import Authorities
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.witness import Memory, Witnessed, WitnessKey, witness_record
from tests.support.ledger import heartbeat, init, open_stream

STREAM = "a" * 32
LOG_KEY = PrivateKey(b"l" * 32)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return init(tmp_path / "repo")


@pytest.fixture
def key(rng: Random) -> WitnessKey:
    return WitnessKey.generate("ci", rng)


def policy_of(*keys: WitnessKey, quorum: str | None = None) -> Policy:
    lines = [f"witness {key.public.name} {key.public.text()}\n" for key in keys]
    return Policy.parse("".join([*lines, f"quorum {quorum or keys[0].public.name}\n"]).encode())


def head(size: int = 3, stream: str = STREAM, root: bytes = b"r" * 32) -> Note:
    checkpoint = Checkpoint(f"agentgov/{stream}", size, root)
    return sign_checkpoint(checkpoint, LOG_KEY.public_key, LOG_KEY.sign)


def signed(note: Note, key: WitnessKey, seconds: int = 1_767_323_045) -> Note:
    return note.with_signature(cosign(note, key.public, key.private.sign, seconds=seconds))


def put(repository: Repository, ref: str, **files: bytes) -> None:
    """Somebody with the right to push puts a commit there."""
    git = Git(repository.common_dir)
    lines = ""
    for name, data in sorted(files.items()):
        oid = git.text("hash-object", "-w", "--stdin", input=data)
        lines += f"100644 blob {oid}\t{name}\n"
    tree = git.text("mktree", input=lines.encode())
    env = {
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x",
    }
    git.run("update-ref", ref, git.text("commit-tree", tree, "-m", "x", env=env))


def test_a_cosigned_head_becomes_an_anchor_with_its_time(repository: Repository, key: WitnessKey) -> None:
    write_cosigned(repository, STREAM, key.public, signed(head(), key), seconds=1_767_323_045)
    (anchor,), problems = read_anchors(repository, STREAM, policy_of(key), None)
    assert (anchor.kind, anchor.size, anchor.root, anchor.who) == ("witness", 3, b"r" * 32, "ci")
    assert anchor.ts == 1_767_323_045_000_000
    assert problems == []


def test_own_and_fetched_signatures_count_alike(repository: Repository, key: WitnessKey) -> None:
    ref = witness_ref(STREAM, key.public).replace("refs/agentgov/", "refs/agentgov/remotes/o/r/")
    put(repository, ref, checkpoint=signed(head(), key).to_bytes())
    anchors, _ = read_anchors(repository, STREAM, policy_of(key), None)
    assert [anchor.size for anchor in anchors] == [3]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda key, other: signed(head(), other), "nobody here named"),
        (lambda key, other: head(), "nobody here named"),
        (lambda key, other: signed(head(stream="b" * 32), key), "of another record"),
        (
            lambda key, other: head().with_signature(NoteSignature("ci", key.public.key_id, b"\0" * 72)),
            "not the witness's",
        ),
        (
            lambda key, other: Note(head(9).text, signed(head(), key).signatures),
            "not the witness's",
        ),
    ],
    ids=["unknown", "nobody", "other-record", "forged", "moved"],
)
def test_what_no_known_witness_signed_does_not_count(
    repository: Repository,
    key: WitnessKey,
    rng: Random,
    make: Callable[[WitnessKey, WitnessKey], Note],
    said: str,
) -> None:
    other = WitnessKey.generate("other", rng)
    put(repository, witness_ref(STREAM, key.public), checkpoint=make(key, other).to_bytes())
    anchors, problems = read_anchors(repository, STREAM, policy_of(key), None)
    assert anchors == []
    assert any(said in problem for problem in problems)


def test_a_wrong_signature_hides_no_right_one(repository: Repository, key: WitnessKey) -> None:
    forged = NoteSignature("ci", key.public.key_id, b"\0" * 72)
    note = signed(head().with_signature(forged), key)
    put(repository, witness_ref(STREAM, key.public), checkpoint=note.to_bytes())
    anchors, _ = read_anchors(repository, STREAM, policy_of(key), None)
    assert [anchor.size for anchor in anchors] == [3]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"other": b"x"},
        {"checkpoint": b""},
        {"checkpoint": b"\xff\n\n"},
        {"checkpoint": b"x" * 100_000},
        {"checkpoint": b"x", "timestamp": b"y"},
    ],
    ids=["empty", "other", "no-note", "not-utf8", "huge", "no-stamp"],
)
def test_whatever_lies_there_ends_nothing(
    repository: Repository, key: WitnessKey, files: dict[str, bytes]
) -> None:
    put(repository, witness_ref(STREAM, key.public), **files)
    put(repository, timestamp_ref(STREAM), **files)
    write_cosigned(repository, STREAM, key.public, signed(head(), key), seconds=1)
    anchors, _ = read_anchors(repository, STREAM, policy_of(key), Authorities(()))
    assert [anchor.size for anchor in anchors] == [3]


def test_stamps_without_an_authority_are_said(repository: Repository) -> None:
    write_timestamp(repository, STREAM, head().to_bytes(), b"0", seconds=1)
    anchors, problems = read_anchors(repository, STREAM, None, None)
    assert anchors == []
    assert problems == ["there are time stamps, and no authority is believed here"]


def test_each_signature_builds_on_the_one_before(repository: Repository, key: WitnessKey) -> None:
    commits = [
        write_cosigned(repository, STREAM, key.public, signed(head(size), key), seconds=size)
        for size in (1, 2, 3)
    ]
    git = Git(repository.common_dir)
    assert git.text("rev-list", "--reverse", witness_ref(STREAM, key.public)).split() == commits
    assert git.text("ls-tree", "-r", "--name-only", commits[-1]) == "checkpoint"
    assert [c.checkpoint.size for _, c in own_cosigned(repository, STREAM, key.public)] == [3, 2, 1]


def test_a_first_own_signature_goes_on_from_a_fetched_one(repository: Repository, key: WitnessKey) -> None:
    first = write_cosigned(repository, STREAM, key.public, signed(head(1), key), seconds=1)
    git, ref = Git(repository.common_dir), witness_ref(STREAM, key.public)
    git.run("update-ref", ref.replace("refs/agentgov/", "refs/agentgov/remotes/origin/"), first)
    git.run("update-ref", "-d", ref)
    second = write_cosigned(repository, STREAM, key.public, signed(head(2), key), seconds=2)
    assert git.text("rev-parse", f"{second}^") == first


def test_a_secret_reads_back_and_has_one_spelling(key: WitnessKey) -> None:
    text = key.secret().encode()
    again = WitnessKey.parse(text + b"\n", where="x")
    assert (again.public, again.seed) == (key.public, key.seed)
    for place in range(len(text)):
        with pytest.raises(UsageError):
            WitnessKey.parse(text[:place] + bytes([text[place] ^ 2]) + text[place + 1 :], where="x")


def test_a_secret_does_not_show_in_a_traceback(key: WitnessKey) -> None:
    assert key.seed.hex() not in repr(key)
    assert repr(key.seed) not in repr(key)


@given(raw=st.binary(max_size=200))
def test_no_other_bytes_are_a_key(raw: bytes) -> None:
    with pytest.raises(UsageError):
        WitnessKey.parse(raw, where="x")


@pytest.fixture
def stream(repository: Repository, state: StateHome) -> Stream:
    made = open_stream(repository, state)
    grow(made)
    return made


def grow(stream: Stream) -> None:
    stream.append([heartbeat()], stream.log_signer())
    stream.seal()


def look(repository: Repository, stream: Stream, key: WitnessKey, memory: Memory) -> Witnessed:
    store = SealStore(Git(repository.common_dir), stream.stream_id, repository.object_format)
    tip = store.newest()
    store.close()
    assert tip is not None
    return witness_record(repository, stream.stream_id, tip, key, memory, clock=FixedClock(10**15))


def test_what_is_signed_is_remembered_before_it_can_be_seen(
    repository: Repository,
    stream: Stream,
    key: WitnessKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Memory(tmp_path / "memory")

    def fail(*_: object, **__: object) -> str:
        raise AgentgovError("the disk is full", id="AG0008")

    with monkeypatch.context() as patch:
        patch.setattr(witness_module, "write_cosigned", fail)
        with pytest.raises(AgentgovError):
            look(repository, stream, key, memory)
    last = memory.last(stream.stream_id, key.public)
    assert last is not None
    assert last.size == 2
    # The next attempt signs the same head, and leaves it where others see it.
    assert look(repository, stream, key, memory).commit is not None
    assert look(repository, stream, key, memory).commit is None


def test_a_witness_without_its_memory_knows_its_own_signatures_in_the_repository(
    repository: Repository, stream: Stream, key: WitnessKey, tmp_path: Path
) -> None:
    look(repository, stream, key, Memory(tmp_path / "one"))
    grow(stream)
    assert look(repository, stream, key, Memory(tmp_path / "two")).before == 2


def test_a_witness_without_its_signatures_in_the_repository_still_refuses_a_shorter_record(
    repository: Repository, stream: Stream, key: WitnessKey, tmp_path: Path
) -> None:
    memory = Memory(tmp_path / "memory")
    grow(stream)
    look(repository, stream, key, memory)
    git = Git(repository.common_dir)
    git.run("update-ref", "-d", witness_ref(stream.stream_id, key.public))
    ref = f"refs/agentgov/ledger/{stream.stream_id}"
    git.run("update-ref", ref, git.text("rev-parse", f"{ref}~1"))
    with pytest.raises(BrokenRecordError) as error:
        look(repository, stream, key, memory)
    assert error.value.id == "AG0475"
    assert list((tmp_path / "memory/evidence").iterdir())


def test_a_witness_never_signs_a_record_with_another_past(
    repository: Repository, stream: Stream, key: WitnessKey, tmp_path: Path
) -> None:
    memory = Memory(tmp_path / "memory")
    # Its writer showed this witness another head of the same size before.
    checkpoint = Checkpoint(stream.origin, 2, os.urandom(32))
    note = signed(sign_checkpoint(checkpoint, LOG_KEY.public_key, LOG_KEY.sign), key)
    memory.remember(stream.stream_id, note)
    with pytest.raises(BrokenRecordError) as error:
        look(repository, stream, key, memory)
    assert error.value.id == "AG0475"
    assert own_cosigned(repository, stream.stream_id, key.public) == []


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"\xff" * 40])
def test_a_memory_that_cannot_be_read_is_an_error_and_never_no_memory(
    repository: Repository, stream: Stream, key: WitnessKey, tmp_path: Path, raw: bytes
) -> None:
    memory = Memory(tmp_path / "memory")
    (tmp_path / "memory" / f"{stream.stream_id}.note").write_bytes(raw)
    with pytest.raises(BrokenRecordError) as error:
        look(repository, stream, key, memory)
    assert error.value.id == "AG0474"


def test_a_memory_signed_by_somebody_else_is_refused(
    repository: Repository, stream: Stream, key: WitnessKey, tmp_path: Path, rng: Random
) -> None:
    memory = Memory(tmp_path / "memory")
    memory.remember(stream.stream_id, signed(head(1, stream.stream_id), WitnessKey.generate("ci", rng)))
    with pytest.raises(BrokenRecordError) as error:
        look(repository, stream, key, memory)
    assert error.value.id == "AG0474"
