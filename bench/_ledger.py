"""Makes long records quickly: entries, signatures, seals and refs as a recorder makes them, without waits.

Rules kept here:
- Every signature is real and made with the key that the rules ask for; the verifier has nothing to find.
- Lines are chained in one process and signed in others, a seal at a time; git gets one stream of objects.
"""

from __future__ import annotations

import base64
import hashlib
import multiprocessing
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentgov.ledger.chain import NO_LEAF
from agentgov.ledger.checkpoint import Checkpoint, sign_checkpoint
from agentgov.ledger.entry import PAYLOAD_TYPE
from agentgov.ledger.merkle import Frontier
from agentgov.ledger.seal import encode_proof, ledger_ref
from agentgov.ledger.signing import PrivateKey, pae

RUN = "7kq2f"
HASH = "a" * 64
SEAL_ENTRIES = 256
START_TS = 1_767_323_045_000_000
RESULT_BYTES = 606
RULE_CHARS = 60


@dataclass(frozen=True)
class LongRecord:
    """A record that lies in a repository."""

    stream_id: str
    public_key: str
    entries: int
    size_bytes: int


@dataclass(frozen=True)
class _Part:
    """The lines of one seal, who signs each, and what else its objects hold."""

    lines: list[bytes]
    seeds: list[bytes]
    size: int
    root: bytes
    proof: list[bytes]


def make_long_record(
    root: Path, entries: int, *, line_bytes: int, kinds: int = 10, jobs: int = 2
) -> LongRecord:
    """Write a record of `entries` entries into a repository, sealed every 256.

    Args:
        root: The repository's work tree, or the bare repository itself.
        entries: How many.
        line_bytes: The mean length of a line; a call's request carries the rules that make it so long.
        kinds: How many different lists of rules there are.
        jobs: Processes that sign.
    """
    rng = random.Random(entries)
    stream_id = f"{rng.getrandbits(128):032x}"
    log_key = PrivateKey(_seed(0))
    importer = subprocess.Popen(
        ["git", "-C", str(root), "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", "--depth=0"],
        stdin=subprocess.PIPE,
    )
    assert importer.stdin is not None
    written = 0
    parts = _parts(f"agentgov/{stream_id}", entries, line_bytes, kinds, rng)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, (part, signatures) in enumerate(pool.imap(_sign, parts), 1):
            checkpoint = Checkpoint(f"agentgov/{stream_id}", part.size, part.root)
            files = {
                "checkpoint": sign_checkpoint(checkpoint, log_key.public_key, log_key.sign).to_bytes(),
                "entries": b"".join(line + b"\n" for line in part.lines),
                "proof": encode_proof(part.proof),
                "signatures": signatures,
            }
            written += len(files["entries"])
            message = b"agentgov: entries up to %d\n" % part.size
            importer.stdin.write(
                b"commit %b\nmark :%d\ncommitter agentgov <agentgov@localhost> %d +0000\ndata %d\n%b%b"
                % (
                    ledger_ref(stream_id).encode(),
                    number,
                    (START_TS + part.size) // 1_000_000,
                    len(message),
                    message,
                    b"from :%d\n" % (number - 1) if number > 1 else b"",
                )
            )
            for name, data in files.items():
                importer.stdin.write(b"M 100644 inline %b\ndata %d\n" % (name.encode(), len(data)))
                importer.stdin.write(data)
                importer.stdin.write(b"\n")
    importer.stdin.close()
    if importer.wait() != 0:
        raise SystemExit("git fast-import failed")
    return LongRecord(stream_id, log_key.public_key.hex(), entries, written)


def _seed(number: int) -> bytes:
    return hashlib.sha256(b"bench %d" % number).digest()


def _sign(part: _Part) -> tuple[_Part, bytes]:
    keys = {seed: PrivateKey(seed) for seed in set(part.seeds)}
    signed = (
        base64.b64encode(keys[seed].sign(pae(PAYLOAD_TYPE, line)))
        for line, seed in zip(part.lines, part.seeds, strict=True)
    )
    return part, b"".join(item + b"\n" for item in signed)


def _parts(log: str, entries: int, line_bytes: int, kinds: int, rng: random.Random) -> Iterator[_Part]:
    frontier, leaf, seq = Frontier(), bytes(NO_LEAF), 0
    key_seq, epoch, calls, is_open = 0, 0, 0, False
    rules = [f"rule-{rng.getrandbits(220):055x}"[:RULE_CHARS] for _ in range(1000)]
    # A request and a result are two entries: the request makes up for the short result.
    per_request = max(0, (2 * line_bytes - 2 * RESULT_BYTES) // (RULE_CHARS + 3))
    # Calls of one kind are judged by the same rules; `kinds` says how many kinds there are.
    judged = [rng.sample(rules, per_request) for _ in range(kinds)]
    while seq < entries:
        lines: list[bytes] = []
        seeds: list[bytes] = []
        proof: list[bytes] = []
        while len(lines) < SEAL_ENTRIES and seq < entries:
            signer, run = key_seq, f'"{RUN}"'
            if seq == 0:
                key, run, kind = log_public(0), "null", "log.genesis"
                body = f'{{"continues":null,"object_format":"sha1","public_key":"{key}"}}'
                seeds.append(_seed(0))
            elif seq == 1:
                kind, epoch, signer, key_seq = "key.delegate", 1, 0, 1
                body = f'{{"public_key":"{log_public(1)}","purpose":"run"}}'
                seeds.append(_seed(0))
            elif seq == 2:
                kind, body = "run.start", _start()
                seeds.append(_seed(epoch))
            elif not lines:
                kind, body = "key.rotate", f'{{"public_key":"{log_public(epoch + 1)}"}}'
                seeds.append(_seed(epoch))
                epoch, key_seq = epoch + 1, seq
            elif is_open:
                kind, body, is_open = "call.result", _result(calls), False
                seeds.append(_seed(epoch))
            else:
                calls += 1
                kind, body, is_open = "call.request", _request(calls, rng.choice(judged)), True
                seeds.append(_seed(epoch))
            line = (
                f'{{"body":{body},"key":{signer},"kind":"{kind}","log":"{log}","prev":"{leaf.hex()}",'
                f'"run":{run},"seq":{seq},"ts":{START_TS + seq},"v":1}}'
            ).encode("ascii")
            lines.append(line)
            leaf = hashlib.sha256(b"\x00" + line).digest()
            proof = frontier.last_proof()
            frontier.append(leaf)
            seq += 1
        yield _Part(lines, seeds, seq, frontier.root(), proof)


def log_public(epoch: int) -> str:
    """The public key of an epoch, hex; 0 is the log key."""
    return PrivateKey(_seed(epoch)).public_key.hex()


def _tree(number: int) -> str:
    return hashlib.sha1(b"%d" % number, usedforsecurity=False).hexdigest()


def _start() -> str:
    capture = '{"files":"watch","gateway":"off","hooks":true,"keys":"open","ledger":"open","sandbox":"none"}'
    return (
        f'{{"agent":"bench","agent_version":"1","base":"{_tree(0)}","capture":{capture},"how":"full",'
        f'"intent":null,"policy":"{HASH}","start":"{HASH}","tree":"{_tree(0)}","workspace":"in-place"}}'
    )


def _request(n: int, rules: list[str]) -> str:
    here, listed = _tree(n - 1), ",".join(f'"{rule}"' for rule in rules)
    commitment = hashlib.sha256(b"args %d" % n).hexdigest()
    return (
        f'{{"actor":0,"args":"{commitment}","changes":null,"from":"{here}","how":"incremental","n":{n},"open":[],'
        f'"tool":"Bash","tree":"{here}","verdict":{{"decision":"allow","policy":"{HASH}","rules":[{listed}]}}}}'
    )


def _result(n: int) -> str:
    changes, output = (hashlib.sha256(b"%d %d" % (n, part)).hexdigest() for part in (1, 2))
    return (
        f'{{"changes":"{changes}","from":"{_tree(n - 1)}","how":"incremental","n":{n},"open":[{n}],'
        f'"output":"{output}","status":"ok","took_us":5,"tree":"{_tree(n)}"}}'
    )
