"""The check of a proof that stands alone: without the rest of the record, and without a repository.

Rules this module keeps:
    * What is wrong in itself is broken (12), whoever is trusted; what nobody here vouches for is untrusted
      (13); what is missing is incomplete (3).
    * The log key is believed because the reader trusts it, or because a person whom the reader trusts stands
      behind it, in the file itself. What a file says of its own key counts for nothing else.
    * Every entry in the file stands in the one signed head, at its own number, and has its own signature: by
      the log key, or by a session key whose introduction is in the file too.
    * A known witness's wrong cosignature breaks the file; unknown witnesses are not counted.
    * A proof is about what is in it. What it cannot show is said with every result (`LIMITS`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError, UntrustedSignerError
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint
from agentgov.ledger.commitments import commitments_of
from agentgov.ledger.cosignature import Cosignature, verify_cosignatures
from agentgov.ledger.endorsement import verify_endorsement, verify_persons
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, parse_entry
from agentgov.ledger.merkle import verify_inclusion
from agentgov.ledger.note import ED25519, Note, NoteKey, verify_note
from agentgov.ledger.payloads import Payload, is_payload_of
from agentgov.ledger.proof_extra import Included, ProofExtra, ProvenPayload, parse_extra
from agentgov.ledger.proof_trust import ProofTrust
from agentgov.ledger.signing import check_public_key, parse_envelope, verify_signature
from agentgov.ledger.tlog_proof import TlogProof, parse_proof

if TYPE_CHECKING:
    from agentgov.ledger.timestamps import Stamp

LOG_KEY: Final = 0
APPROVAL: Final = "application/vnd.in-toto+json"
LIMITS: Final = (
    "whether other entries are missing, or what they say: verify the whole record for that",
    "whether a run's key was still in use at this place: the entries between are not in this file",
    "when it happened: times are the writer's own, unless a witness or a time stamp says so",
)


@dataclass(frozen=True, slots=True)
class ProofReport:
    """What a proof shows.

    Attributes:
        head: The signed head that the entries stand in.
        entries: The proven entry first, then the others of its call.
        log_key: The record's key.
        by_log: Whether the reader trusts that key itself.
        persons: The trusted persons who stand behind it, with "since left" where that is so.
        approved_by: Who signed the proven entry, if it is an approval: a name, or the fingerprint of a key
            that the reader does not know.
        witnesses: The trusted witnesses who cosigned the head, by their names in the policy.
        seen: When each of them says so, POSIX seconds.
        payloads: The payloads that the entries commit to.
        stamp: The time stamp over the head, by an authority that the reader believes; None without one.
        unchecked_stamp: Why the time stamp in the file does not count; None when it does, or none is there.
    """

    head: Checkpoint
    entries: tuple[Entry, ...]
    log_key: NoteKey
    by_log: bool
    persons: tuple[str, ...]
    approved_by: tuple[str, ...]
    witnesses: tuple[str, ...]
    seen: Mapping[str, int]
    payloads: tuple[ProvenPayload, ...]
    stamp: Stamp | None
    unchecked_stamp: str | None


def verify_proof(raw: bytes, trust: ProofTrust) -> ProofReport:
    """Verify a proof against what the reader trusts.

    Raises:
        BrokenRecordError: When anything in it is not what was signed: AG0403 and AG0404 its form, AG0206 its
            place, AG0405 what does not belong to it, AG0408 a payload, and the ids of notes, entries,
            signatures, cosignatures, endorsements and time stamps.
        UntrustedSignerError: AG0406, when nobody trusted vouches for the log key.
        IncompleteError: AG0410, when it carries no entry, or not the key of one; AG0407, when too few
            trusted witnesses have cosigned; AG0284, when ssh-keygen is needed and missing.
    """
    proof = parse_proof(raw)
    if proof.extra is None:
        raise IncompleteError("this proof does not carry the entry that it is about", id="AG0410")
    return _Check(proof, parse_extra(proof.extra), trust).report()


class _Check:
    """One pass over one proof."""

    def __init__(self, proof: TlogProof, extra: ProofExtra, trust: ProofTrust) -> None:
        self._proof = proof
        self._extra = extra
        self._trust = trust
        self._note = proof.note
        self._head = parse_checkpoint(self._note.text)
        self._origin = self._head.origin

    def report(self) -> ProofReport:
        """Check everything and return what it shows."""
        proven = Included(self._proof.index, self._extra.line, self._extra.signature, self._proof.hashes)
        main = self._place(proven)
        log_key, by_log = self._log_key()
        verify_note(self._proof.raw_note, [log_key])
        keys = self._session_keys(log_key.public_key)
        self._verify_signature(main, proven, log_key.public_key, keys)
        entries = (main, *self._related(main, log_key.public_key, keys))
        used = {entry.key for entry in entries} - {LOG_KEY}
        if keys.keys() != used:
            raise _foreign("it introduces a key that none of its entries was signed with")
        self._verify_payloads(entries)
        cosigned = verify_cosignatures(self._note, self._trust.policy.witnesses.values())
        persons, left = self._persons(log_key.public_key, max(entry.seq for entry in entries), cosigned)
        if not by_log and not persons:
            raise UntrustedSignerError(
                "nobody you trust vouches for the key of this record"
                if not left
                else f"{', '.join(left)} stood behind its key and was revoked, and nothing in the file shows"
                " that its head is from before",
                id="AG0406",
                where=log_key.text(),
                hint=self._how_to_trust(),
            )
        approved_by = self._approved_by(main)
        witnesses, seen = self._witnesses(cosigned)
        return ProofReport(
            self._head,
            entries,
            log_key,
            by_log,
            persons,
            approved_by,
            witnesses,
            seen,
            self._extra.payloads,
            *self._stamp(log_key),
        )

    # Places and signatures.

    def _place(self, included: Included) -> Entry:
        """Check that an entry stands at its number in the signed head, and belongs to its record."""
        head = self._head
        leaf = leaf_hash(included.line)
        verify_inclusion(leaf, included.index, head.size, included.hashes, head.root)
        entry = parse_entry(included.line)
        if entry.seq != included.index or entry.log != head.origin:
            raise _foreign(f"entry {included.index} in it says another number or another record")
        return entry

    def _session_keys(self, log_key: bytes) -> dict[int, tuple[Entry, bytes]]:
        keys = {}
        for included in self._extra.keys:
            entry = self._place(included)
            if entry.kind not in ("key.delegate", "key.rotate"):
                raise _foreign(f"entry {entry.seq} in it introduces no key")
            # A rotation is signed by the key before it, which is not here: the signed head, which only the
            # log key makes, vouches for it.
            if entry.kind == "key.delegate":
                self._verify_signature(entry, included, log_key, {})
            public_key = bytes.fromhex(entry.body["public_key"])
            check_public_key(public_key)
            keys[entry.seq] = (entry, public_key)
        return keys

    def _verify_signature(
        self, entry: Entry, included: Included, log_key: bytes, keys: Mapping[int, tuple[Entry, bytes]]
    ) -> None:
        where = f"entry {entry.seq}"
        signer = KINDS[entry.kind].signer
        if entry.key == LOG_KEY:
            public_key, allowed = log_key, signer in ("any", "log")
        elif entry.key in keys:
            introduced, public_key = keys[entry.key]
            allowed = signer in ("any", "session") and entry.run in (None, introduced.run)
        else:
            raise IncompleteError(
                "the entry that introduced its key is not in the file", id="AG0410", where=where
            )
        if not allowed:
            raise _foreign(f"entry {entry.seq} is signed by a key that may not sign it")
        verify_signature(public_key, PAYLOAD_TYPE, included.line, included.signature, where=where)

    def _related(
        self, main: Entry, log_key: bytes, keys: Mapping[int, tuple[Entry, bytes]]
    ) -> tuple[Entry, ...]:
        entries = []
        for included in self._extra.related:
            entry = self._place(included)
            same = entry.run == main.run and entry.body.get("n") == main.body.get("n")
            if not (entry.kind.startswith("call.") and main.kind.startswith("call.") and same):
                raise _foreign(f"entry {entry.seq} in it is not about the same call")
            if entry.seq == main.seq:
                raise _foreign("an entry stands in it twice")
            self._verify_signature(entry, included, log_key, keys)
            entries.append(entry)
        return tuple(entries)

    def _verify_payloads(self, entries: tuple[Entry, ...]) -> None:
        committed = [item for entry in entries for item in commitments_of(entry)]
        for payload in self._extra.payloads:
            found = Payload(payload.field, payload.cls, payload.value, payload.salt)
            if not any(
                (item.field, item.cls) == (payload.field, payload.cls) and is_payload_of(found, item.digest)
                for item in committed
            ):
                raise BrokenRecordError(
                    "content in it is not what was recorded", id="AG0408", where=f"field {payload.field}"
                )

    # Trust.

    def _log_key(self) -> tuple[NoteKey, bool]:
        """Return the log key and whether the reader trusts it itself."""
        known = [key for key in self._trust.logs if key.algorithm == ED25519 and key.name == self._origin]
        for key in known:
            if any(key.names(signature) for signature in self._note.signatures):
                return key, True
        if known:
            # A record has one key: another one is not this record's, whoever stands behind it.
            raise UntrustedSignerError(
                "its signed head is not signed by the key you trust for this record",
                id="AG0406",
                where=self._origin,
                hint=self._how_to_trust(),
            )
        for included in self._extra.endorsements:
            return NoteKey(self._origin, self._endorsed_key(included)), False
        raise UntrustedSignerError(
            "nobody stands behind this record's key in the file, and it is none that you trust",
            id="AG0406",
            where=self._origin,
            hint=self._how_to_trust(),
        )

    def _endorsed_key(self, included: Included) -> bytes:
        """Return the key that an endorsement names; whether it is true is checked with the rest."""
        body = self._endorsement(included).body
        payload = parse_envelope(body["envelope"]).payload
        raw_key = _field(payload, "public_key")
        try:
            public_key = bytes.fromhex(raw_key)
        except ValueError:
            raise _foreign("somebody stands behind a key that is none") from None
        check_public_key(public_key)
        return public_key

    def _endorsement(self, included: Included) -> Entry:
        entry = self._place(included)
        if entry.kind != "stream.endorse":
            raise _foreign(f"entry {entry.seq} in it stands behind nothing")
        return entry

    def _persons(
        self, log_key: bytes, last: int, cosigned: Sequence[Cosignature]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the trusted persons who stand behind the log key for entries up to `last`.

        Then those who were revoked after that, if nothing shows that this head is an honest one: a thief of
        their keys can write the whole record anew, and every entry below the freeze with it.
        """
        people = self._trust.people
        frozen = people.frozen_heads(self._origin)
        if any(head.size == self._head.size and head.root != self._head.root for head in frozen):
            raise _foreign("its signed head is another one than the head that was frozen at that size")
        # Whoever asks for witnesses believes them not to sign a head that does not extend what they saw.
        policy = self._trust.policy
        is_seen = policy.demands_witnesses and policy.is_met(policy.names_of([c.key for c in cosigned]))
        is_from_before = is_seen or any(head.size == self._head.size for head in frozen)
        names: list[str] = []
        left: list[str] = []
        for included in self._extra.endorsements:
            entry = self._endorsement(included)
            self._verify_signature(entry, included, log_key, {})
            for key in verify_endorsement(entry.body, self._origin, log_key.hex()):
                name = people.principal(key)
                # Whoever was revoked no longer vouches for what stands at the frozen head or above it.
                standing = people.standing(key, self._origin, max(last, entry.seq))
                if name is None or standing == "revoked":
                    continue
                if standing == "member":
                    names.append(name)
                else:
                    (names if is_from_before else left).append(f"{name} ({standing})")
        return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(left))

    def _approved_by(self, main: Entry) -> tuple[str, ...]:
        """Return who signed the proven entry, if it is an approval; a wrong signature breaks the proof."""
        if main.kind != "approval.given":
            return ()
        envelope = parse_envelope(main.body["envelope"])
        # Whoever has the record's key can enter what a person signed about something else.
        if envelope.payload_type != APPROVAL or _approved(envelope.payload) != (main.run, self._origin):
            raise _foreign("what was approved is another run's result, or another record's")
        people, names = self._trust.people, []
        for key in verify_persons(envelope, "an approval"):
            name, standing = people.principal(key), people.standing(key, self._origin, main.seq)
            shown = f"{key.fingerprint} (none of your keys)" if name is None else name
            names.append(shown if standing == "member" else f"{shown} ({standing})")
        return tuple(dict.fromkeys(names))

    def _witnesses(self, cosigned: Sequence[Cosignature]) -> tuple[tuple[str, ...], dict[str, int]]:
        policy = self._trust.policy
        seen = {}
        for item in cosigned:
            for name in policy.names_of([item.key]):
                seen[name] = item.seconds
        if policy.demands_witnesses and not policy.is_met(seen.keys()):
            raise IncompleteError(
                f"too few of the witnesses you ask for have signed it: {len(seen)} of those you know",
                id="AG0407",
                where=f"{self._origin}, {self._head.size} entries",
                hint="agentgov sync, then agentgov prove again, once they have seen this record",
            )
        return tuple(sorted(seen)), seen

    def _stamp(self, log_key: NoteKey) -> tuple[Stamp | None, str | None]:
        """Return the time stamp, or why the one in the file does not count."""
        raw, authorities = self._extra.timestamp, self._trust.authorities
        if raw is None:
            return None, None
        if authorities is None:
            return None, "no authority for it is among your keys"
        from agentgov.ledger.timestamps import verify_timestamp

        signed = next(line for line in self._note.signatures if log_key.names(line))
        try:
            return verify_timestamp(raw, Note(self._note.text, (signed,)).to_bytes(), authorities), None
        except BrokenRecordError:
            raise
        except AgentgovError as error:
            # An authority that nobody believes, or no means to check it: what the log key signed still holds.
            return None, error.message

    def _how_to_trust(self) -> tuple[str, ...]:
        if self._extra.endorsements:
            return ("give the allowed_signers line of the person who stands behind it: --trust KEYS",)
        return ("agentgov keys list, on the machine that keeps this record, prints its key for --trust KEYS",)


def _field(raw_statement: bytes, name: str) -> str:
    try:
        value: Any = json.loads(raw_statement)
    except (ValueError, RecursionError):
        value = None
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise BrokenRecordError("an endorsement is not about this record", id="AG0283")
    return found


def _approved(raw_statement: bytes) -> tuple[object, object] | None:
    """Return the run and the record that an in-toto statement of ours is about."""
    try:
        predicate: Any = json.loads(raw_statement)["predicate"]
        return predicate["run"], predicate["ledger"]["log"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _foreign(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this proof holds what does not belong together: {what}", id="AG0405")
