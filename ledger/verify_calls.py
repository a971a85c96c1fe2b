"""Takes requests and results of calls from many lines at once, without making objects of them.

Rules this module keeps:
    * It takes a line only if `entry.parse_entry`, `chain.verify_link`, `Keyring.signer` and `RunRules.check`
      would take it; a test compares the two. Before the first line it is not sure about it stops, and has
      changed nothing for that line.
    * What must stand in a line because of those before it is compared, not matched: the text that is expected
      is canonical, so text that equals it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agentgov.ids import RunId
from agentgov.ledger import canonical
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.entry import Entry, match_entry
from agentgov.ledger.fields import MAX_LIST
from agentgov.ledger.keyring import LOG_KEY, Keyring
from agentgov.ledger.lines import body_of, end_of
from agentgov.ledger.verify_rules import RunProgress, RunRules

_STEP: Final = ("changes", "from", "n", "open", "tree")
_REQUEST: Final = body_of("call.request", (*_STEP, "actor"), ("from", "n", "open"), upto="verdict").match
_RESULT: Final = body_of("call.result", _STEP, ("from", "open")).fullmatch
_VERDICT: Final = re.compile(KINDS["call.request"].fields["verdict"].pattern).fullmatch
_REQUEST_END: Final = end_of("call.request").fullmatch
_RESULT_END: Final = end_of("call.result").fullmatch
# A time of 16 digits: from 2001 to 2255. Others are left to the exact way.
_TIME: Final = re.compile(r'[1-8][0-9]{15},"v":1\}').fullmatch
_TIME_CHARS: Final = 23
# Verdicts are long and few: they are remembered by their end, which names the last rules, because the hash of
# the whole text costs as much as matching it.
_VERDICT_KEY: Final = 80
_MAX_VERDICT_CHARS: Final = 8 * 1024 * 1024
_NO_VERDICT: Final = ("", "")
# The three decisions differ in their second letter, which stands behind {"decision":" and the first.
_DECISIONS: Final = {"l": "allow", "s": "ask", "e": "deny"}
_UNSAYABLE: Final = "?"


class Block:
    """Lines that follow each other, each with its LF.

    Attributes:
        text: All of them; any character other than ASCII is one that no pattern has.
        hashed: The same with a zero byte before each line instead of the LF after it: what leaves are hashes
            of, without copying a line.
    """

    __slots__ = ("hashed", "text")

    def __init__(self, data: bytes) -> None:
        self.text = data.decode("latin-1")
        self.hashed = memoryview((b"\n" + data).replace(b"\n", b"\x00"))

    def line(self, at: int, end: int) -> bytes:
        """Return the line between two places of the text."""
        return bytes(self.hashed[at + 1 : end + 1])


@dataclass(slots=True)
class Taken:
    """What was taken.

    Attributes:
        at: Where the first line that was not taken begins.
        leaves: The leaves of those that were.
        spans: How many in turn must be signed by which public key.
    """

    at: int
    leaves: list[bytes] = field(default_factory=list)
    spans: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class _Stretch:
    """Calls of one run, signed by one key.

    Attributes:
        run: Where the run stands.
        public_key: Who signs.
        request: What stands between a request's body and `prev`.
        result: The same for a result.
        middle: What stands between `prev` and `seq`.
        open: The calls that are running as a line spells them.
    """

    run: RunProgress
    public_key: bytes
    request: str
    result: str
    middle: str
    open: str


class CallReader:
    """Reads the calls of one record.

    Args:
        log: The record's origin.
        rules: Where each run stands; it goes on with what is taken.
        keyring: The keys that live.
        note: Takes the entries that were taken; None when nobody looks.
    """

    def __init__(
        self, log: str, rules: RunRules, keyring: Keyring, note: Callable[[Entry], None] | None
    ) -> None:
        self._log = log
        self._rules = rules
        self._keyring = keyring
        self._note = note
        self._verdicts: dict[str, tuple[str, str]] = {}
        self._verdict_chars = 0

    def take(self, block: Block, at: int, seq: int, leaf: bytes, limit: int | None = None) -> Taken:
        """Take lines while nothing about them is unusual.

        Args:
            block: The lines.
            at: Where the first begins.
            seq: The number that the first must have.
            leaf: The leaf before it.
            limit: How many to take at most; None for all.
        """
        text, hashed, note = block.text, block.hashed, self._note
        sha256, verdicts = hashlib.sha256, self._verdicts
        leaves, spans = list[bytes](), list[tuple[int, bytes]]()
        prev, stretch, since = leaf.hex(), None, seq
        length = len(text)
        last = -1 if limit is None else seq + limit
        while at < length and seq != last:
            end = text.find("\n", at)
            is_request = text.startswith('{"body":{"actor"', at)
            rest, stop = "", -1
            if stretch is not None:
                begin = stretch.request if is_request else stretch.result
                rest = f'{begin}{prev}{stretch.middle}{seq},"ts":'
                stop = end - _TIME_CHARS - len(rest)
            if stretch is None or not text.startswith(rest, stop):
                other = self._turn(text, at, end, is_request)
                if other is None:
                    break
                if stretch is not None:
                    spans.append((seq - since, stretch.public_key))
                stretch, since = other, seq
                begin = stretch.request if is_request else stretch.result
                rest = f'{begin}{prev}{stretch.middle}{seq},"ts":'
                stop = end - _TIME_CHARS - len(rest)
                if not text.startswith(rest, stop):
                    break
            if end - at > canonical.MAX_BYTES or _TIME(text, end - _TIME_CHARS, end) is None:
                break
            run, decision = stretch.run, ""
            if is_request:
                match = _REQUEST(text, at, stop)
                if match is None:
                    break
                raw_actor, changes, before, raw_n, opened, after = match.groups()
                place = match.end()
                verdict, decision = verdicts.get(text[stop - _VERDICT_KEY : stop], _NO_VERDICT)
                if not verdict or stop - place != len(verdict) or not text.startswith(verdict, place):
                    if _VERDICT(text, place, stop) is None:
                        break
                    decision = self._learn(text[place:stop])
                if raw_n != str(run.calls + 1) or int(raw_actor) not in run.actors:
                    break
            else:
                match = _RESULT(text, at, stop)
                if match is None:
                    break
                changes, before, raw_n, opened, after = match.groups()
                if int(raw_n) not in run.open:
                    break
            if before != run.tree or opened != stretch.open:
                break
            if (before == after) != (changes is None) or (changes is not None and not opened):
                break
            if is_request:
                run.calls += 1
                if decision == "allow":
                    run.open.add(run.calls)
                    stretch.open = f"{opened},{raw_n}" if opened else raw_n
                    if len(run.open) > MAX_LIST:
                        stretch.open = _UNSAYABLE
                else:
                    (run.waiting if decision == "ask" else run.denied).add(run.calls)
            else:
                run.open.remove(int(raw_n))
                stretch.open = _without(opened, raw_n)
            run.tree = after
            leaf = sha256(hashed[at : end + 1]).digest()
            prev = leaf.hex()
            leaves.append(leaf)
            if note is not None and (entry := match_entry(block.line(at, end))) is not None:
                note(entry)
            seq += 1
            at = end + 1
        if stretch is not None:
            spans.append((seq - since, stretch.public_key))
        return Taken(at, leaves, [span for span in spans if span[0]])

    def _turn(self, text: str, at: int, end: int, is_request: bool) -> _Stretch | None:
        """Return the run and the key that a line names, if that key may sign a call of that run now."""
        stop = text.rfind('},"key":', at, end)
        match = (_REQUEST_END if is_request else _RESULT_END)(text, stop, end) if stop > 0 else None
        if match is None or self._keyring.ended is not None:
            return None
        raw_key, run_id = match[1], RunId(match[4])
        run, seq = self._rules.runs.get(run_id), int(raw_key)
        if run is None or run.tree is None or run.end_tree is not None:
            return None
        if seq == LOG_KEY or seq < self._keyring.boundary:
            return None
        key = next((key for key in self._keyring.live(run_id) if key.seq == seq), None)
        if key is None:
            return None
        request, result = (
            f'}},"key":{raw_key},"kind":"{kind}","log":"{self._log}","prev":"'
            for kind in ("call.request", "call.result")
        )
        middle = f'","run":"{run_id}","seq":'
        return _Stretch(run, key.public_key, request, result, middle, _open_text(run.open))

    def _learn(self, verdict: str) -> str:
        """Remember a verdict that the pattern matched, and return its decision."""
        if self._verdict_chars > _MAX_VERDICT_CHARS:
            self._verdicts.clear()
            self._verdict_chars = 0
        decision = _DECISIONS[verdict[14]]
        self._verdicts[verdict[-_VERDICT_KEY:]] = (verdict, decision)
        self._verdict_chars += len(verdict)
        return decision


def _open_text(calls: set[int]) -> str:
    """The calls that are running as a line spells them, ascending; more than a line can name never fit."""
    return ",".join(map(str, sorted(calls))) if len(calls) <= MAX_LIST else _UNSAYABLE


def _without(opened: str, raw_n: str) -> str:
    """The same calls without one of them."""
    if opened == raw_n:
        return ""
    listed = f",{opened},"
    at = listed.index(f",{raw_n},")
    return (listed[:at] + listed[at + len(raw_n) + 1 :])[1:-1]
