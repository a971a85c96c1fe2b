"""Approvals: what a person signs, and what a signature is worth.

Rules kept here:
- An approval is an in-toto Statement v1 about a result tree and the digest of its change; it names everything
  that could make the
  same words mean another thing (target, base, rules, merge settings, record, expiry) and is complete in
  itself.
- It is parsed strictly: bytes that do not print back identically are refused, so one approval has one
  spelling.
- Who signed is decided by the caller's trust, never by what the approval says about itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentgov.errors import BrokenRecordError, UntrustedSignerError
from agentgov.ids import RunId
from agentgov.ledger.people import Standing
from agentgov.ledger.signing import Envelope, sign_envelope

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://agentgov.dev/approval/v1"
DEFAULT_LIFETIME_US = 14 * 24 * 3600 * 1_000_000
MAX_PAYLOAD_BYTES = 32 * 1024

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r"agentgov/[0-9a-f]{32}")
_REF = re.compile(r"refs/heads/[^\x00-\x20\x7f~^:?*\[\\]+")
_RUN = re.compile(r"[0-9a-z]{5}")


@dataclass(frozen=True)
class Approval:
    """What is approved.

    Attributes:
        run: whose result it is.
        target: the branch it may land on, as refs/heads/...
        base: the commit that the run began at.
        head: the target's commit when the approval was given.
        result: the result tree.
        delta: SHA-256 of git's raw diff from the base to the result.
        policy: the digest of the rules it was given under.
        log: the record's origin, size and root (hex) at that time.
        git_version: the git that computed the result.
        merge_settings: the settings that a merge result depends on.
        given_us: when, microseconds UTC.
        expires_us: when it ends.
    """

    run: RunId
    target: str
    base: str
    head: str
    result: str
    delta: str
    policy: str
    log: tuple[str, int, str]
    git_version: str
    merge_settings: Mapping[str, str]
    given_us: int
    expires_us: int

    def to_statement(self) -> dict[str, Any]:
        """The in-toto statement."""
        return {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": "result", "digest": {"gitTree": self.result}},
                {"name": "delta", "digest": {"sha256": self.delta}},
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "run": self.run,
                "target": self.target,
                "base": self.base,
                "head": self.head,
                "policy": self.policy,
                "ledger": {"log": self.log[0], "size": self.log[1], "root": self.log[2]},
                "gitVersion": self.git_version,
                "mergeSettings": dict(self.merge_settings),
                "given": self.given_us,
                "expires": self.expires_us,
            },
        }

    def to_payload(self) -> bytes:
        """The bytes that are signed: JSON with sorted keys, no spaces, ASCII only."""
        return json.dumps(self.to_statement(), sort_keys=True, separators=(",", ":")).encode("ascii")


def parse_approval(raw_payload: bytes) -> Approval:
    """Parses the payload of an approval.

    Raises:
        BrokenRecordError: AG0111, when it is not exactly one.
    """
    if len(raw_payload) > MAX_PAYLOAD_BYTES:
        raise _broken("it is too large")
    try:
        statement = json.loads(raw_payload)
        predicate, subject = statement["predicate"], statement["subject"]
        ledger = predicate["ledger"]
        approval = Approval(
            run=RunId(_text(predicate["run"], _RUN)),
            target=_text(predicate["target"], _REF),
            base=_text(predicate["base"], _OID),
            head=_text(predicate["head"], _OID),
            result=_text(subject[0]["digest"]["gitTree"], _OID),
            delta=_text(subject[1]["digest"]["sha256"], _HASH),
            policy=_text(predicate["policy"], _HASH),
            log=(_text(ledger["log"], _LOG), _number(ledger["size"]), _text(ledger["root"], _HASH)),
            git_version=_text(predicate["gitVersion"], re.compile(r"[\x20-\x7e]{1,64}")),
            merge_settings={_text(key): _text(value) for key, value in predicate["mergeSettings"].items()},
            given_us=_number(predicate["given"]),
            expires_us=_number(predicate["expires"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _broken("a part is missing or wrong") from error
    if approval.to_payload() != raw_payload:
        raise _broken("it does not print back identically")
    return approval


def _broken(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not an approval: {what}", id="AG0111")


def _text(value: object, pattern: re.Pattern[str] | None = None) -> str:
    if (
        not isinstance(value, str)
        or len(value) > 1024
        or (pattern is not None and not pattern.fullmatch(value))
    ):
        raise ValueError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError
    return value


@dataclass(frozen=True)
class Principal:
    """A person as trust knows them; one person counts once, however many keys they have.

    Attributes:
        name: as the trust file says, or "operator" for the key pinned on this machine.
        is_operator_key: it is the pinned key of whoever started runs here.
        standing: whether the key still counts: a revoked one does so below the place where it was frozen.
    """

    name: str
    is_operator_key: bool = False
    standing: Standing = "member"


Identify = Callable[[bytes, bytes], Principal | None]
"""Says who made a signature: (signed bytes, signature) -> a principal and their standing, or None."""


@dataclass(frozen=True)
class GivenApproval:
    """An approval with who stands behind it, and where the record holds it."""

    approval: Approval
    principals: tuple[Principal, ...]
    seq: int | None = None


def sign_approval(approval: Approval, key_id: str, sign: Callable[[bytes], bytes]) -> Envelope:
    """Signs an approval with a person's key; `sign` gets the DSSE pre-authentication encoding."""
    return sign_envelope(PAYLOAD_TYPE, approval.to_payload(), key_id, sign)


def verify_approval(envelope: Envelope, identify: Identify, *, seq: int | None = None) -> GivenApproval:
    """Checks an approval's signatures and reads it.

    Raises:
        BrokenRecordError: AG0111, when it is not an approval.
        UntrustedSignerError: AG0112, when no signature is by anybody trusted, now or once: what a revoked
            principal's is worth is for the decision to say.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _broken("its type is another")
    message = envelope.pae()
    found = [identify(message, signature.signature) for signature in envelope.signatures]
    principals = tuple(dict.fromkeys(principal for principal in found if principal is not None))
    if not principals:
        raise UntrustedSignerError(
            "nobody who is trusted here signed this approval",
            id="AG0112",
            hint="a trusted signer is named in the trust file on the protected branch",
        )
    return GivenApproval(parse_approval(envelope.payload), principals, seq)
