"""Anchors as they lie in a repository: cosigned and stamped heads, read and verified, or written.

Rules this module keeps:
    * `refs/agentgov/witness/<record>/<key id>` and `refs/agentgov/timestamp/<record>` point at commits with a
      flat tree: the signed head as `checkpoint`, with the witness's line added, and the authority's answer as
      `timestamp`. Each commit's parent is the one before it.
    * A ref moves by compare-and-swap from what it was, and only forward; objects and ref are durable.
    * What is read becomes an anchor only when it is about this record and verified under a key that the
      policy names, or an authority that is believed. Everything else is counted as a problem and passed over:
      whoever can push can put anything there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError, UntrustedSignerError
from agentgov.git import ZERO_OID, Git, Repository
from agentgov.ledger.anchors import Anchor, AnchorKind
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint
from agentgov.ledger.cosignature import Cosignature, verify_cosignature
from agentgov.ledger.cosigned import Read, cosigned_notes, read_stamped
from agentgov.ledger.note import Note, NoteKey, parse_note
from agentgov.ledger.timestamps import Authorities, is_available, verify_timestamp
from agentgov.ledger.tlog_policy import Policy, is_supported

ORIGIN_PREFIX: Final = "agentgov/"
MAX_PROBLEMS: Final = 20
_LOOKED_AT: Final = 64
_DURABLE: Final = {"core.fsync": "objects,reference", "core.fsyncMethod": "fsync"}


def witness_ref(stream_id: str, key: NoteKey) -> str:
    """Return the ref on which a witness's cosigned heads of a record lie."""
    return f"refs/agentgov/witness/{stream_id}/{key.key_id.hex()}"


def timestamp_ref(stream_id: str) -> str:
    """Return the ref on which the time stamps of a record lie."""
    return f"refs/agentgov/timestamp/{stream_id}"


def read_anchors(
    repository: Repository,
    stream_id: str,
    policy: Policy | None,
    authorities: Authorities | None,
) -> tuple[list[Anchor], list[str]]:
    """Return the heads of a record that known witnesses have cosigned and believed authorities have stamped.

    Own refs and fetched ones are read alike.

    Args:
        repository: Where to look.
        stream_id: Which record.
        policy: Who is a witness; without it nobody is.
        authorities: Whose time stamps are believed; without it nobody's.

    Returns:
        The anchors, each once; and what was passed over, in words.
    """
    reading, read = _Reading(ORIGIN_PREFIX + stream_id), Read()
    if policy is not None:
        key_ids = sorted({key.key_id.hex() for key in policy.witnesses.values()})
        for note in cosigned_notes(repository, stream_id, key_ids, read):
            reading.take_note(note, policy)
    # Those of others only lead to a remark: a few of them are enough.
    for note in itertools.islice(cosigned_notes(repository, stream_id, None, Read()), _LOOKED_AT):
        if policy is not None:
            reading.take_note(note, policy)
        else:
            reading.pass_over("there are witnesses' signatures, and nobody here is named as a witness")
    stamps = read_stamped(repository, stream_id, read)
    if authorities is not None and is_available():
        for raw_note, raw_response in stamps:
            reading.take_stamp(raw_note, raw_response, authorities)
    elif next(stamps, None) is not None:
        reading.pass_over(
            "there are time stamps, and no authority is believed here"
            if authorities is None
            else "there are time stamps, which cannot be checked here: pip install 'agentgov[timestamp]'"
        )
    if not read.is_whole:
        reading.pass_over("not every signature of witnesses and authorities that lies here could be read")
    return list(reading.anchors), list(reading.problems)[:MAX_PROBLEMS]


def own_cosigned(repository: Repository, stream_id: str, key: NoteKey) -> list[tuple[Note, Cosignature]]:
    """Return the heads of a record that one witness has cosigned, largest first; wrong ones are left out.

    Raises:
        IncompleteError: AG0477, when there is more than can be read, or not all of it is here.
    """
    read = Read()
    found: dict[Checkpoint, tuple[Note, Cosignature]] = {}
    for note in cosigned_notes(repository, stream_id, [key.key_id.hex()], read):
        cosignature = _cosignature_of(note, key)
        if cosignature is not None and cosignature.checkpoint.origin == ORIGIN_PREFIX + stream_id:
            found.setdefault(cosignature.checkpoint, (note, cosignature))
    if not read.is_whole:
        raise IncompleteError(
            f"what {key.name} has signed of this record before cannot all be read",
            id="AG0477",
            where=witness_ref(stream_id, key),
            hint="git fetch ORIGIN 'refs/agentgov/*:refs/agentgov/*'",
        )
    return sorted(found.values(), key=lambda pair: pair[1].checkpoint.size, reverse=True)


def write_cosigned(repository: Repository, stream_id: str, key: NoteKey, note: Note, *, seconds: int) -> str:
    """Add a cosigned head to the witness's ref, and return its commit.

    Raises:
        AgentgovError: AG0008, when git cannot write it, or somebody else was quicker.
    """
    ref = witness_ref(stream_id, key)
    return _add(repository, ref, {"checkpoint": note.to_bytes()}, f"agentgov: seen by {key.name}", seconds)


def write_timestamp(
    repository: Repository, stream_id: str, raw_note: bytes, raw_response: bytes, *, seconds: int
) -> str:
    """Add a stamped head to the record's ref of time stamps, and return its commit; raises as above."""
    files = {"checkpoint": raw_note, "timestamp": raw_response}
    return _add(repository, timestamp_ref(stream_id), files, "agentgov: stamped", seconds)


class _Reading:
    """Collects anchors and problems of one record, each once."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.anchors: dict[Anchor, None] = {}
        self.problems: dict[str, None] = {}

    def pass_over(self, what: str) -> None:
        """Note what was not believed."""
        self.problems[what] = None

    def take_note(self, note: Note, policy: Policy) -> None:
        """Take over the cosignatures of known witnesses on one head."""
        names = {key: name for name, key in policy.witnesses.items()}
        known = [key for key in names if any(key.names(signature) for signature in note.signatures)]
        if not known:
            self.pass_over("there are signatures of witnesses that nobody here named")
        for key in known:
            name = names[key]
            cosignature = _cosignature_of(note, key) if is_supported(key) else None
            if not is_supported(key):
                self.pass_over(f"the key of witness {name} is of a kind that cannot be checked here")
            elif cosignature is None:
                self.pass_over(f"a signature in the name of witness {name} is not the witness's")
            elif cosignature.checkpoint.origin != self._origin:
                self.pass_over(f"a head that witness {name} signed is one of another record")
            elif cosignature.checkpoint.size:
                self._add(cosignature.checkpoint, "witness", name, cosignature.seconds * 1_000_000)

    def take_stamp(self, raw_note: bytes, raw_response: bytes, authorities: Authorities) -> None:
        """Take over one stamped head."""
        try:
            checkpoint = parse_checkpoint(parse_note(raw_note).text)
            stamp = verify_timestamp(raw_response, raw_note, authorities)
        except (BrokenRecordError, UntrustedSignerError, AgentgovError) as error:
            self.pass_over(f"a time stamp does not count: {error.message}")
            return
        if checkpoint.origin != self._origin:
            self.pass_over("a head that was stamped is one of another record")
        elif checkpoint.size:
            self._add(checkpoint, "timestamp", stamp.who, stamp.ts)

    def _add(self, checkpoint: Checkpoint, kind: AnchorKind, who: str, ts: int) -> None:
        self.anchors[Anchor(kind, checkpoint.size, checkpoint.root, who, ts)] = None


def _cosignature_of(note: Note, key: NoteKey) -> Cosignature | None:
    """The first signature on a head that is really this witness's; None when there is none."""
    for signature in note.signatures:
        if key.names(signature):
            try:
                return verify_cosignature(note, signature, key)
            except BrokenRecordError:
                continue
    return None


def _add(repository: Repository, ref: str, files: Mapping[str, bytes], message: str, seconds: int) -> str:
    git = Git(repository.common_dir)
    old = repository.ref(ref)
    parent = old or _fetched_tip(repository, git, ref)
    tree_lines = []
    for name, content in sorted(files.items()):
        oid = git.text("hash-object", "-w", "--stdin", input=content, config=_DURABLE)
        tree_lines.append(f"100644 blob {oid}\t{name}\n")
    tree = git.text("mktree", input="".join(tree_lines).encode(), config=_DURABLE)
    person = {"NAME": "agentgov", "EMAIL": "agentgov@localhost", "DATE": f"@{seconds} +0000"}
    env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
    parents = () if parent is None else ("-p", parent)
    commit = git.text("commit-tree", tree, *parents, "-m", message, env=env, config=_DURABLE)
    zero = ZERO_OID[repository.object_format]
    git.run("update-ref", "--no-deref", ref, commit, old or zero, config=_DURABLE)
    return commit


def _fetched_tip(repository: Repository, git: Git, ref: str) -> str | None:
    """Return the newest fetched commit of a ref that does not lie here yet, so that a remote can go on."""
    rest = ref.removeprefix("refs/agentgov/")
    listed = git.text(
        "for-each-ref", "--count=2", "--sort=-committerdate", "--format=%(objectname)",
        f"refs/agentgov/remotes/**/{rest}",
    ).split()  # fmt: skip
    return listed[0] if listed else None
