"""Makes the golden record: `python -m tests.golden.make FOLDER`.

The record in this folder was made once, with format version 1, and is never made anew: it must verify for
ever. This file says how it came about, and makes one for a later version of the format.

It holds every kind of entry, in two streams: the first was ended and is continued by the second. A person
endorsed the first, one payload was erased and one class pruned, and a witness saw it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentgov.clock import FixedClock, Random
from agentgov.git import Repository, discover
from agentgov.layout import StateHome
from agentgov.ledger.endorsement import PAYLOAD_TYPE, endorsement_payload
from agentgov.ledger.entry import Draft, Entry
from agentgov.ledger.keys import Signer
from agentgov.ledger.proving import SealedTree, make_proof
from agentgov.ledger.seal import ledger_ref
from agentgov.ledger.sshsig import PersonKey, sign_statement
from agentgov.ledger.stream import Stream
from agentgov.ledger.succession import begin_successor
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_source import RepositorySource, Trust
from agentgov.ledger.witness import Memory, WitnessKey, witness_record
from tests.support.ledgers import MACHINE, OTHER, POLICY, RUN, Writer, payload_store, tree

WITNESS = "witness.example.org"
PERSON = "alice@example.org"
START_US = 1_767_323_045_000_000


def main(folder: Path) -> None:
    """Write bundle, trust files, proof and expectations to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    repo, state = folder / "repo", StateHome(folder / "state")
    state.create()
    _git(folder, "init", "-q", "-b", "main", str(repo))
    person = ["-c", "user.name=Alice Example", "-c", f"user.email={PERSON}"]
    _git(repo, *person, "commit", "-q", "--allow-empty", "-m", "first")
    key = _person(folder / "person")
    clock, random = FixedClock(START_US, 1_000), _random()
    repository = discover(repo)
    payloads = payload_store(repo, random)
    with Stream.open(repository, state, clock=clock, random=random, machine=MACHINE) as stream:
        _first_run(stream, payloads, repository.require_head_commit(), key)
        payloads.close()
        for run in (RUN, OTHER):
            payloads.fold(run)
        old = stream.stream_id
    begin_successor(repository, state, reason="rotated", clock=clock, random=random, machine=MACHINE)
    with Stream.open(repository, state, clock=clock, random=random, machine=MACHINE) as stream:
        stream.append([Draft("pin.forgotten", None, _forgotten(old))], stream.log_signer())
        _endorse(stream, repository.require_head_commit(), key)
        stream.seal()
        new = stream.stream_id
    witness = WitnessKey.generate(WITNESS, random)
    memory = Memory(folder / "witness")
    for name in (old, new):
        tip = _git(repo, "rev-parse", ledger_ref(name))
        witness_record(repository, name, tip, witness, memory, clock=clock)
        refs = f"refs/agentgov/payloads/*:refs/agentgov/payloads/{name}/*"
        if name == old:
            _git(repo, "fetch", "-q", str(repository.layout.store), refs)
    policy = f"witness {WITNESS} {witness.public.text()}\nquorum {WITNESS}\n"
    (folder / "v1.witnesses").write_text(policy)
    trust = f'{PERSON} namespaces="agentgov-approval-v1" {_public(key)}\n'
    (folder / "v1.allowed_signers").write_text(trust)
    with SealedTree(repository, old) as sealed:
        at = next(seq for seq in range(sealed.size) if sealed.record(seq).entry.kind == "call.result")
        (folder / "v1.tlog-proof").write_bytes(make_proof(sealed, repository, at).to_bytes())
    _git(repo, "bundle", "create", "-q", str(folder / "v1.bundle"), "--all")
    expected = {name: _expected(repository, name) for name in (old, new)}
    (folder / "v1.json").write_text(json.dumps(expected, indent=2) + "\n")


def _expected(repository: Repository, stream_id: str) -> dict[str, Any]:
    report = verify_ledger(RepositorySource(repository, stream_id=stream_id), trust=Trust())
    assert report.head is not None
    head = {name: getattr(report.head, name) for name in report.head.__slots__}
    return {"key": report.head.public_key, "entries": report.entries, "head": head}


def _first_run(stream: Stream, payloads: Any, base: str, key: PersonKey) -> None:
    """Two runs over three seals, and what is said of the whole record."""
    log = stream.log_signer()
    stream.append([Draft("log.recovered", None, {"torn_bytes": 7, "sha256": "e" * 64})], log)
    run = Writer(stream, payloads, RUN, base)
    _adopt(stream, run, log)
    run.start()
    run.say("actor.seen", actor=1, parent=0, who=run.put("args", "who"))
    run.request()
    run.request("deny")
    run.request("ask", 2, actor=1)
    run.answer(3)
    told = run.result(1, 3, lines=3).entry
    stream.seal()
    run.say("log.heartbeat")
    run.result(3)
    run.say("change.unattributed", **run.step(4))
    run.end()
    stream.end_key(run.signer)
    _endorse(stream, base, key)
    _land(stream, run, log, base, key, told)
    payloads.erase({RUN: [told.body["output"]]})
    stream.seal()
    lost = Writer(stream, payloads, OTHER, base)
    lost.start()
    seq = lost.signer.key_seq
    stream.append([Draft("key.lost", OTHER, {"lost": seq})], log)
    end = {"state": "interrupted", "exit": None, "ended": 0, **lost.step()}
    stream.append([Draft("run.end", OTHER, end), Draft("run.drop", OTHER, {})], log)
    stream.seal()


def _adopt(stream: Stream, run: Writer, log: Signer) -> None:
    body = {"digest": POLICY, "source": "built-in", "text": run.put("args", "text", b"permit(x);")}
    stream.append([Draft("policy.adopted", RUN, body)], log)


def _land(stream: Stream, run: Writer, log: Signer, base: str, key: PersonKey, told: Entry) -> None:
    """Bind, approve, promote, take back, apply, erase and prune."""
    delta = "f" * 64

    def say(kind: str, **body: Any) -> int:
        return stream.append([Draft(kind, RUN, body)], log)[0].entry.seq

    say("result.bind", base=base, delta=delta, problems=None, result=tree(9), tree=run.tree)
    statement = b'{"_type":"https://in-toto.io/Statement/v1","note":"golden"}'
    approval = _signed(key, "application/vnd.in-toto+json", statement)
    seq = say("approval.given", envelope=approval, message=run.put("args", "message", b"looks good"))
    promote = {"approvals": [seq], "base": base, "delta": delta, "head": base, "old": base, "policy": POLICY}
    target = {"result": tree(9), "self_approved": False, "tier": "low"}
    for name in (b"refs/heads/main", b"refs/heads/other"):
        say("promote.intent", **promote, **target, target=run.put("args", "target", name))
        if name.endswith(b"main"):
            say("promote.done", commit=base)
        else:
            say("promote.failed", reason="moved")
    rollback = {"to": 1, "target": tree(3), "place": "workspace"}
    say("run.rollback", **rollback, **run.step(3))
    say("run.apply", place="in-place", result=tree(9), saved=tree(8))
    reason = run.put("args", "reason", b"it held a password")
    erased = told.body["output"]
    say("payload.erased", commitment=erased, entry=told.seq, field="output", reason=reason)
    say("payload.pruned", before=5, cause="retention", count=0, **{"class": "patch"})


def _endorse(stream: Stream, base: str, key: PersonKey) -> None:
    payload = endorsement_payload(stream.origin, stream.public_key.hex(), [base])
    body = {"envelope": _signed(key, PAYLOAD_TYPE, payload)}
    stream.append([Draft("stream.endorse", None, body)], stream.log_signer())


def _signed(key: PersonKey, payload_type: str, payload: bytes) -> dict[str, Any]:
    return sign_statement(key, payload_type, payload).to_body()


def _forgotten(stream_id: str) -> dict[str, Any]:
    return {"log": f"agentgov/{stream_id}", "root": "9" * 64, "size": 3}


def _person(path: Path) -> PersonKey:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return PersonKey(path, None, "golden")


def _public(key: PersonKey) -> str:
    assert key.file is not None
    return key.file.with_suffix(".pub").read_text().strip()


def _random() -> Random:
    counter = itertools.count()
    return lambda size: hashlib.shake_256(b"golden%d" % next(counter)).digest(size)


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
