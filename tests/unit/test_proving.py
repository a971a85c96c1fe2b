"""Proofs made from a real record: they verify alone, against what a reader trusts, and nothing else does."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agentgov.clock import FixedClock
from agentgov.errors import AgentgovError, ExitCode, IncompleteError, UntrustedSignerError, UsageError
from agentgov.git import Git, discover
from agentgov.layout import StateHome
from agentgov.ledger import merkle
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.cosignature import cosign, witness_key
from agentgov.ledger.endorsement import PAYLOAD_TYPE as ENDORSEMENT
from agentgov.ledger.endorsement import endorsement_payload
from agentgov.ledger.entry import Draft
from agentgov.ledger.note import Note
from agentgov.ledger.proof_extra import ProofExtra, ProvenPayload, parse_extra
from agentgov.ledger.proof_trust import ProofTrust, parse_trust, read_trust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.proving import SealedTree, log_key, make_proof
from agentgov.ledger.revocation import HEADER, FrozenHead, Revocation
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.sshkey import parse_public_key
from agentgov.ledger.sshsig import PersonKey, sign_statement
from agentgov.ledger.stream import Stream
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import TlogProof, parse_proof
from tests.conftest import GitRunner, MakeRepo
from tests.support.ledgers import RUN, Prepared, payload_store, prepare

WITNESS = PrivateKey(b"\7" * 32)
WITNESS_KEY = witness_key("witness.example", WITNESS.public_key)
POLICY = Policy.parse(f"witness W {WITNESS_KEY.text()}\nquorum W\n".encode())


@pytest.fixture
def record(make_repo: MakeRepo, state: StateHome) -> Prepared:
    """Two runs; sealed three times, the last seal over the end of the second run."""
    prepared = prepare(make_repo(), state, FixedClock(), os.urandom)
    repository = discover(prepared.repo)
    with Stream.open(repository, state, clock=FixedClock(), random=os.urandom, machine="0" * 64) as stream:
        stream.seal()
    return prepared


def tree_of(record: Prepared) -> SealedTree:
    return SealedTree(discover(record.repo), record.stream_id)


def trust_in_log(record: Prepared) -> ProofTrust:
    with tree_of(record) as tree:
        return parse_trust(log_key(tree).text().encode())


def call_entries(record: Prepared) -> tuple[int, tuple[int, ...]]:
    """The entries of call 1 of the first run: its request, then the others."""
    with tree_of(record) as tree:
        found = [
            signed.entry.seq
            for signed in map(tree.record, range(tree.size))
            if signed.entry.run == RUN
            and signed.entry.kind.startswith("call.")
            and signed.entry.body["n"] == 1
        ]
    return found[0], tuple(found[1:])


def prove_call(record: Prepared, policy: Policy | None = None) -> TlogProof:
    index, related = call_entries(record)
    payloads = payload_store(record.repo, os.urandom)
    with tree_of(record) as tree:
        shown = []
        for number, name in ((index, "args"), (related[-1], "output")):
            payload = payloads.get(RUN, tree.record(number).entry.body[name])
            assert payload is not None
            shown.append(ProvenPayload(payload.cls, payload.field, payload.salt, payload.value))
        return make_proof(tree, discover(record.repo), index, related=related, payloads=shown, policy=policy)


def test_every_entry_has_the_proof_of_the_whole_tree_in_every_head(record: Prepared) -> None:
    with tree_of(record) as tree:
        leaves = [leaf_hash(tree.record(index).line) for index in range(tree.size)]
        assert len(tree.heads(0)) >= 3
        for index in range(tree.size):
            for size in tree.heads(index):
                proof = tree.inclusion_proof(index, size)
                assert list(proof) == merkle.inclusion_proof(leaves[:size], index)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_proofs_hold_however_the_seals_are_cut(step: int, make_repo: MakeRepo, state: StateHome) -> None:
    repository = discover(make_repo())
    with Stream.open(repository, state, clock=FixedClock(), random=os.urandom) as stream:
        signer = stream.log_signer()
        for _ in range(40 // step if step > 1 else 20):
            stream.append([Draft("log.heartbeat", None, {})] * step, signer)
            stream.seal()
        stream_id = stream.stream_id
    with SealedTree(repository, stream_id) as tree:
        leaves = [leaf_hash(tree.record(index).line) for index in range(tree.size)]
        for index in range(tree.size):
            for size in tree.heads(index)[:: max(1, tree.size // 8)]:
                assert list(tree.inclusion_proof(index, size)) == merkle.inclusion_proof(leaves[:size], index)


def test_a_proof_verifies_away_from_its_repository_and_prints_back(record: Prepared) -> None:
    raw = prove_call(record).to_bytes()
    report = verify_proof(raw, trust_in_log(record))
    assert [entry.kind for entry in report.entries] == ["call.request", "call.result"]
    assert {payload.field: payload.value for payload in report.payloads} == {
        "args": b'{"command": "ls"}',
        "output": b"done",
    }
    assert report.by_log
    assert parse_proof(raw).to_bytes() == raw
    extra = parse_proof(raw).extra
    assert extra is not None
    assert parse_extra(extra).to_bytes() == extra


def test_each_changed_byte_of_a_proof_is_refused_with_a_clear_error(record: Prepared) -> None:
    raw = prove_call(record).to_bytes()
    trust = trust_in_log(record)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(AgentgovError) as error:
            verify_proof(bytes(changed), trust)
        assert error.value.exit_code in (ExitCode.BROKEN, ExitCode.UNTRUSTED, ExitCode.INCOMPLETE)


def test_each_cut_of_a_proof_is_refused(record: Prepared) -> None:
    raw = prove_call(record).to_bytes()
    trust = trust_in_log(record)
    for length in range(len(raw)):
        with pytest.raises(AgentgovError):
            verify_proof(raw[:length], trust)


def test_another_key_than_the_trusted_one_is_untrusted(record: Prepared) -> None:
    raw = prove_call(record).to_bytes()
    other = replace(trust_in_log(record).logs[0], public_key=WITNESS.public_key)
    with pytest.raises(UntrustedSignerError) as error:
        verify_proof(raw, parse_trust(other.text().encode()))
    assert error.value.id == "AG0406"


Change = Callable[[ProofExtra], ProofExtra]


@pytest.mark.parametrize(
    ("error_id", "change"),
    [
        ("AG0410", lambda extra: replace(extra, keys=())),
        ("AG0405", lambda extra: replace(extra, keys=extra.related)),
        ("AG0211", lambda extra: replace(extra, signature=bytes(64))),
        ("AG0206", lambda extra: replace(extra, line=extra.related[0].line)),
        ("AG0206", lambda extra: replace(extra, related=(replace(extra.related[0], index=3),))),
        ("AG0408", lambda extra: replace(extra, payloads=(replace(extra.payloads[0], value=b"no"),))),
        ("AG0408", lambda extra: replace(extra, payloads=(replace(extra.payloads[0], field="output"),))),
        ("AG0408", lambda extra: replace(extra, payloads=(replace(extra.payloads[0], cls="patch"),))),
        ("AG0408", lambda extra: replace(extra, payloads=(replace(extra.payloads[0], salt=b""),))),
    ],
)
def test_what_does_not_belong_together_is_refused_with_its_own_error(
    record: Prepared, error_id: str, change: Change
) -> None:
    proof = prove_call(record)
    assert proof.extra is not None
    raw = replace(proof, extra=change(parse_extra(proof.extra)).to_bytes()).to_bytes()
    with pytest.raises(AgentgovError) as error:
        verify_proof(raw, trust_in_log(record))
    assert error.value.id == error_id


def test_an_entry_signed_by_a_key_that_may_not_sign_it_is_refused(record: Prepared) -> None:
    proof = prove_call(record)
    assert proof.extra is not None
    extra = parse_extra(proof.extra)
    # The entry's own signature, checked as if the log key had made it: `key` is inside the signed line.
    raw = replace(proof, extra=replace(extra, keys=()).to_bytes()).to_bytes()
    with pytest.raises(IncompleteError):
        verify_proof(raw, trust_in_log(record))


def test_a_key_that_signed_none_of_its_entries_is_refused(record: Prepared) -> None:
    with tree_of(record) as tree:
        proof = make_proof(tree, discover(record.repo), 0)
    other = prove_call(record)
    assert proof.extra is not None
    assert other.extra is not None
    keys = parse_extra(other.extra).keys
    raw = replace(proof, extra=replace(parse_extra(proof.extra), keys=keys).to_bytes()).to_bytes()
    with pytest.raises(AgentgovError) as error:
        verify_proof(raw, trust_in_log(record))
    assert error.value.id == "AG0405"


def test_entries_of_another_call_are_not_about_this_one(record: Prepared) -> None:
    index, _ = call_entries(record)
    with tree_of(record) as tree:
        others = [
            signed.entry.seq
            for signed in map(tree.record, range(index))
            if signed.entry.kind != "log.genesis"
        ]
        later = next(
            signed.entry.seq
            for signed in map(tree.record, range(index + 1, tree.size))
            if signed.entry.kind == "call.request"
        )
        for wrong in (others[0], later):
            with pytest.raises(AgentgovError) as error:
                make_proof(tree, discover(record.repo), index, related=[wrong])
            assert error.value.id == "AG0405"


def test_a_proof_without_an_entry_is_incomplete(record: Prepared) -> None:
    with pytest.raises(IncompleteError) as error:
        verify_proof(replace(prove_call(record), extra=None).to_bytes(), trust_in_log(record))
    assert error.value.id == "AG0410"


# Persons.


def person(folder: Path, name: str) -> PersonKey:
    file = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)]
    subprocess.run(command, check=True)
    return PersonKey(file, None, "test")


def allowed(key: PersonKey, name: str) -> bytes:
    assert key.file is not None
    kind, blob, _ = key.file.with_suffix(".pub").read_text().split(" ", 2)
    return f"{name} {kind} {blob}\n".encode()


def endorse(record: Prepared, state: StateHome, key: PersonKey, public_key: str | None = None) -> None:
    """Let a person stand behind the record's key, or claim to stand behind another one."""
    repository = discover(record.repo)
    with Stream.open(repository, state, clock=FixedClock(), random=os.urandom, machine="0" * 64) as stream:
        said = endorsement_payload(stream.origin, public_key or stream.public_key.hex(), [record.base])
        envelope = sign_statement(key, ENDORSEMENT, said)
        body = {"envelope": envelope.to_body()}
        stream.append([Draft("stream.endorse", None, body)], stream.log_signer())
        stream.seal()


def test_whoever_trusts_a_person_needs_no_key_of_the_record(
    record: Prepared, state: StateHome, tmp_path: Path
) -> None:
    alice, bob, eve = (person(tmp_path, name) for name in ("alice", "bob", "eve"))
    before = prove_call(record).to_bytes()
    endorse(record, state, alice)
    endorse(record, state, bob)
    raw = prove_call(record).to_bytes()
    for key, name in ((alice, "alice@example.org"), (bob, "bob@example.org")):
        report = verify_proof(raw, parse_trust(allowed(key, name)))
        assert (report.persons, report.by_log) == ((name,), False)
    both = parse_trust(allowed(alice, "alice") + allowed(bob, "bob") + log_line(record))
    assert verify_proof(raw, both).persons == ("alice", "bob")
    assert verify_proof(raw, both).by_log
    for stranger, file in ((eve, raw), (alice, before)):
        with pytest.raises(UntrustedSignerError) as error:
            verify_proof(file, parse_trust(allowed(stranger, "eve")))
        assert error.value.id == "AG0406"


def log_line(record: Prepared) -> bytes:
    return trust_in_log(record).logs[0].text().encode() + b"\n"


def test_a_person_who_was_revoked_counts_below_the_freeze_only(
    record: Prepared, state: StateHome, tmp_path: Path
) -> None:
    alice = person(tmp_path, "alice")
    endorse(record, state, alice)
    proof = prove_call(record)
    raw, head = proof.to_bytes(), proof.checkpoint
    line = allowed(alice, "alice")
    key = parse_public_key(line.split(b" ", 1)[1].decode())
    last = max(call_entries(record)[1])
    # A frozen head of another size than this one's says nothing of it: a thief could have made this one.
    for size, trusted in ((0, False), (proof.index + 1, False), (last + 1, False), (head.size, True)):
        frozen = {head.origin: FrozenHead(head.origin, size, head.root)} if size else {}
        revoked = f"{HEADER}\n{Revocation('alice', 'person', (key.fingerprint,), frozen).text()}"
        trust = read_trust({"allowed_signers": line, "revoked": revoked.encode()})
        if trusted:
            assert verify_proof(raw, trust).persons == ("alice (since left)",)
        else:
            with pytest.raises(UntrustedSignerError):
                verify_proof(raw, trust)


def test_a_head_that_is_not_the_frozen_one_of_its_size_is_broken(
    record: Prepared, state: StateHome, tmp_path: Path
) -> None:
    alice = person(tmp_path, "alice")
    endorse(record, state, alice)
    proof = prove_call(record)
    head = proof.checkpoint
    frozen = Revocation(
        "bob", "keys", ("SHA256:" + "A" * 43,), {head.origin: FrozenHead(head.origin, head.size, bytes(32))}
    )
    files = {"allowed_signers": allowed(alice, "alice"), "revoked": f"{HEADER}\n{frozen.text()}".encode()}
    with pytest.raises(AgentgovError) as error:
        verify_proof(proof.to_bytes(), read_trust(files))
    assert error.value.id == "AG0405"


def test_an_endorsement_of_another_key_breaks_the_proof_that_carries_it(
    record: Prepared, state: StateHome, tmp_path: Path
) -> None:
    mallory = person(tmp_path, "mallory")
    endorse(record, state, mallory)
    proof = prove_call(record)
    assert proof.extra is not None
    extra = parse_extra(proof.extra)
    # The genuine endorsement of one record, put into the proof of another.
    line = extra.endorsements[0].line
    other = replace(extra.endorsements[0], line=line.replace(record.stream_id.encode(), b"f" * 32))
    raw = replace(proof, extra=replace(extra, endorsements=(other,)).to_bytes()).to_bytes()
    with pytest.raises(AgentgovError) as error:
        verify_proof(raw, parse_trust(allowed(mallory, "mallory")))
    assert error.value.exit_code is ExitCode.BROKEN


def test_a_person_cannot_bring_another_key_for_a_record_whose_key_is_known(
    record: Prepared, state: StateHome, tmp_path: Path
) -> None:
    alice = person(tmp_path, "alice")
    endorse(record, state, alice)
    raw = prove_call(record).to_bytes()
    known = replace(trust_in_log(record).logs[0], public_key=WITNESS.public_key).text().encode() + b"\n"
    with pytest.raises(UntrustedSignerError):
        verify_proof(raw, parse_trust(allowed(alice, "alice") + known))


# Witnesses.


def cosigned_ref(record: Prepared, git: GitRunner, note: Note, ref: str) -> None:
    """Put a cosigned head where a witness would."""
    blob = git(record.repo, "hash-object", "-w", "--stdin", input=note.to_bytes())
    tree = git(record.repo, "mktree", input=f"100644 blob {blob}\tcheckpoint\n".encode())
    commit = git(record.repo, "commit-tree", "-m", "cosigned", tree)
    git(record.repo, "update-ref", ref, commit)


@pytest.mark.parametrize("place", ["", "remotes/origin/"])
def test_a_proof_takes_the_cosigned_head_and_a_quorum_can_be_asked_for(
    record: Prepared, git: GitRunner, place: str
) -> None:
    index, related = call_entries(record)
    with tree_of(record) as tree:
        size = tree.heads(max(index, *related))[0]
        assert size < tree.size
        note = tree.note(size)
    line = cosign(note, WITNESS_KEY, WITNESS.sign, seconds=1_700_000_000)
    ref = f"refs/agentgov/{place}witness/{record.stream_id}/{WITNESS_KEY.key_id.hex()}"
    asks = replace(trust_in_log(record), policy=POLICY)
    with pytest.raises(IncompleteError) as error:
        verify_proof(prove_call(record).to_bytes(), asks)
    assert error.value.id == "AG0407"
    cosigned_ref(record, git, note.with_signature(line), ref)
    for policy in (POLICY, None):
        report = verify_proof(prove_call(record, policy).to_bytes(), asks)
        assert (report.witnesses, report.seen) == (("W",), {"W": 1_700_000_000})
        assert report.head.size == size
    # Who does not know the witness does not count it, and nothing breaks.
    assert verify_proof(prove_call(record).to_bytes(), trust_in_log(record)).witnesses == ()


def test_a_cosignature_that_is_none_is_left_out_when_it_is_made_and_breaks_what_carries_it(
    record: Prepared, git: GitRunner
) -> None:
    with tree_of(record) as tree:
        note = tree.note(tree.size)
    line = cosign(note, WITNESS_KEY, PrivateKey(b"\3" * 32).sign, seconds=5)
    ref = f"refs/agentgov/witness/{record.stream_id}/{WITNESS_KEY.key_id.hex()}"
    cosigned_ref(record, git, note.with_signature(line), ref)
    asks = replace(trust_in_log(record), policy=POLICY)
    with pytest.raises(IncompleteError):
        verify_proof(prove_call(record, POLICY).to_bytes(), asks)
    with pytest.raises(AgentgovError) as error:
        verify_proof(prove_call(record).to_bytes(), asks)
    assert error.value.id == "AG0401"


def test_anything_on_a_witness_ref_is_passed_over(record: Prepared, git: GitRunner) -> None:
    place = f"refs/agentgov/remotes/evil/witness/{record.stream_id}"
    for number, content in enumerate((b"", b"\xff" * 100, b"x" * 100_000)):
        blob = git(record.repo, "hash-object", "-w", "--stdin", input=content)
        tree = git(record.repo, "mktree", input=f"100644 blob {blob}\tcheckpoint\n".encode())
        git(record.repo, "update-ref", f"{place}/{number}", git(record.repo, "commit-tree", "-m", "x", tree))
        git(record.repo, "update-ref", f"{place}/blob{number}", blob)
    verify_proof(prove_call(record).to_bytes(), trust_in_log(record))


# Time stamps.


def authority(folder: Path) -> Callable[[bytes], bytes]:
    """A time stamp authority made here: its certificate is `tsa.pem`; it stamps the bytes it is given."""
    config = folder / "tsa.cnf"
    config.write_text(
        "[tsa]\nserial=$ENV::TSA/serial\nsigner_digest=sha256\ndefault_policy=1.2.3\ndigests=sha256\n"
        "[dn]\n[req]\ndistinguished_name=dn\n[ext]\nextendedKeyUsage=critical,timeStamping\n"
    )
    (folder / "serial").write_text("01\n")
    env = {**os.environ, "TSA": str(folder)}

    def openssl(*args: str) -> None:
        command = ["openssl", *args]
        subprocess.run(command, check=True, capture_output=True, env=env, cwd=folder)

    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem"),
        *("-subj", "/CN=clock.example", "-days", "30", "-config", "tsa.cnf", "-extensions", "ext"),
    )

    def stamp(message: bytes) -> bytes:
        (folder / "message").write_bytes(message)
        openssl("ts", "-query", "-data", "message", "-sha256", "-cert", "-out", "query")
        openssl(
            *("ts", "-reply", "-queryfile", "query", "-signer", "tsa.pem", "-inkey", "tsa.key"),
            *("-config", "tsa.cnf", "-section", "tsa", "-out", "reply"),
        )
        return (folder / "reply").read_bytes()

    return stamp


def test_a_time_stamp_goes_along_and_counts_for_who_believes_its_authority(
    record: Prepared, git: GitRunner, tmp_path: Path
) -> None:
    pytest.importorskip("rfc3161_client")
    stamp = authority(tmp_path)
    with tree_of(record) as tree:
        note = tree.note(tree.size).to_bytes()
    files = {"checkpoint": note, "timestamp": stamp(note)}
    lines = "".join(
        f"100644 blob {git(record.repo, 'hash-object', '-w', '--stdin', input=raw)}\t{name}\n"
        for name, raw in files.items()
    )
    commit = git(record.repo, "commit-tree", "-m", "x", git(record.repo, "mktree", input=lines.encode()))
    git(record.repo, "update-ref", f"refs/agentgov/timestamp/{record.stream_id}", commit)
    proof = prove_call(record)
    pem = (tmp_path / "tsa.pem").read_bytes()
    report = verify_proof(proof.to_bytes(), parse_trust(log_line(record) + pem))
    assert report.stamp is not None
    assert "clock.example" in report.stamp.who
    assert report.unchecked_stamp is None
    unknown = verify_proof(proof.to_bytes(), trust_in_log(record))
    assert (unknown.stamp, unknown.unchecked_stamp) == (None, "no authority for it is among your keys")
    (tmp_path / "other").mkdir()
    authority(tmp_path / "other")
    other = parse_trust(log_line(record) + (tmp_path / "other" / "tsa.pem").read_bytes())
    assert verify_proof(proof.to_bytes(), other).stamp is None
    assert proof.extra is not None
    for wrong in (stamp(b"another"), b"", b"\x30\x03", files["timestamp"][:-1]):
        extra = replace(parse_extra(proof.extra), timestamp=wrong).to_bytes()
        with pytest.raises(AgentgovError) as error:
            verify_proof(replace(proof, extra=extra).to_bytes(), parse_trust(log_line(record) + pem))
        assert error.value.exit_code is ExitCode.BROKEN


# Records that are not whole.


def test_a_missing_beginning_is_incomplete(record: Prepared, tmp_path: Path, git: GitRunner) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{record.repo}", str(shallow))
    ref = f"refs/agentgov/ledger/{record.stream_id}"
    git(shallow, "fetch", "-q", "--depth=1", f"file://{record.repo}", f"{ref}:{ref}")
    with pytest.raises(IncompleteError):
        SealedTree(discover(shallow, bare_ok=True), record.stream_id)


def test_an_entry_of_a_fetched_record_is_proven_too(record: Prepared, tmp_path: Path, git: GitRunner) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(record.repo), str(clone))
    ref = f"ledger/{record.stream_id}"
    git(clone, "fetch", "-q", "origin", f"refs/agentgov/{ref}:refs/agentgov/remotes/origin/{ref}")
    index, related = call_entries(record)
    repository = discover(clone)
    with SealedTree(repository, record.stream_id) as tree:
        raw = make_proof(tree, repository, index, related=related).to_bytes()
    assert verify_proof(raw, trust_in_log(record)).by_log


def test_an_entry_that_is_not_saved_or_not_there_is_named(record: Prepared) -> None:
    with tree_of(record) as tree:
        for index in (-1, tree.size, 10**20):
            with pytest.raises(UsageError) as error:
                make_proof(tree, discover(record.repo), index)
            assert error.value.id == "AG0409"
    with pytest.raises(IncompleteError):
        SealedTree(discover(record.repo), "f" * 32)


def test_a_record_whose_saved_parts_were_changed_gives_no_proof(record: Prepared, git: GitRunner) -> None:
    store = Git(discover(record.repo).common_dir)
    ref = f"refs/agentgov/ledger/{record.stream_id}"
    tip = git(record.repo, "rev-parse", ref)
    entries = store.run("cat-file", "blob", f"{tip}:entries").stdout
    blob = git(record.repo, "hash-object", "-w", "--stdin", input=entries.replace(b'"n":2', b'"n":9'))
    listed = git(record.repo, "ls-tree", tip).replace(git(record.repo, "rev-parse", f"{tip}:entries"), blob)
    tree_id = git(record.repo, "mktree", input=f"{listed}\n".encode())
    parent = git(record.repo, "rev-parse", f"{tip}~")
    message = git(record.repo, "log", "-1", "--format=%s", tip)
    commit = git(record.repo, "commit-tree", "-m", message, "-p", parent, tree_id)
    git(record.repo, "update-ref", ref, commit)
    index, related = call_entries(record)
    with tree_of(record) as tree, pytest.raises(AgentgovError) as error:
        make_proof(tree, discover(record.repo), index, related=related)
    assert error.value.exit_code is ExitCode.BROKEN


def test_the_extra_of_a_proof_is_base64_of_canonical_json(record: Prepared) -> None:
    line = prove_call(record).to_bytes().split(b"\n")[1]
    raw = base64.b64decode(line.removeprefix(b"extra "))
    assert raw.startswith(b'{"endorsements":[],"entry":"{')
