"""`agentgov keys list`: every key that matters here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentgov.cli.screen import Screen, notes, plural, print_json, results
from agentgov.cli.session import Session

if TYPE_CHECKING:
    from agentgov.cli.keys_change import TrustFiles
    from agentgov.ledger.people import People

_SHORT = 23


def command(
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"log_key":...,...}.')] = False,
) -> None:
    """Every key that matters here: this clone's, yours, and those of everybody trusted or revoked.

    Who is trusted is read from the protected branch, not from your files. Exit codes: 0 listed,
    2 the files that say who is trusted cannot be read.

    Examples:

      agentgov keys list

      agentgov keys list --json
    """
    from agentgov.cli.keys_change import TrustFiles

    session = Session.here()
    files = TrustFiles.read(session)
    people = files.people()
    found: dict[str, Any] = {
        "v": 1,
        "log_key": _log_key(session),
        "session_keys": _session_keys(session),
        "your_key": _your_key(session),
        "operator": _operator(session),
        "read_from": {"branch": files.base.name, "commit": files.base.commit},
        "trusted": [_person(people, name) for name in people.persons() if people.lines_of(name)],
        "revoked": [_revocation(people, number) for number in range(len(people.revocations))],
        "witnesses": _witnesses(session, files),
        "problems": list(people.problems),
    }
    if as_json:
        print_json(found)
    else:
        _show(results(), found)


def _log_key(session: Session) -> Mapping[str, Any] | None:
    """This clone's own key; None when it has none, as a clone that was moved or copied."""
    import base64
    import hashlib

    from agentgov.ledger.genesis import ORIGIN_PREFIX
    from agentgov.ledger.note import NoteKey
    from agentgov.ledger.verify_source import local_trust

    known = local_trust(session.repo, session.state)
    if known.stream_id is None or known.public_key is None:
        return None
    public = bytes.fromhex(known.public_key)
    origin = ORIGIN_PREFIX + known.stream_id
    fingerprint = base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")
    return {
        "record": origin,
        "key": NoteKey(origin, public).text(),
        "fingerprint": f"SHA256:{fingerprint}",
        "saved_up_to": 0 if known.pin is None else known.pin.size,
    }


def _session_keys(session: Session) -> list[Mapping[str, Any]]:
    """The keys of runs that have not ended; the record is only read, and nothing in it is closed."""
    from contextlib import nullcontext

    from agentgov.ledger.keyring import Keyring
    from agentgov.ledger.reader import Reader

    keyring = Keyring()
    with Reader.of_clone(session.repo) or nullcontext() as reader:
        for signed in () if reader is None else reader.entries():
            # A search in canonical bytes: only these entries introduce or bury a key.
            if b'"kind":"key.' in signed.line or signed.entry.seq == 0:
                keyring.advance(signed.entry)
    return [
        {
            "run": key.run,
            "entry": key.seq,
            "public_key": key.public_key.hex(),
            "live": key.run is not None and session.is_live(key.run),
        }
        for key in keyring.live()
    ]


def _your_key(session: Session) -> Mapping[str, Any] | None:
    """The key that this person would sign with; None when there is none."""
    from agentgov.cli.gate import home_folder
    from agentgov.errors import AgentgovError
    from agentgov.harness.people import find_key, public_part

    try:
        person = find_key(session.repo, home_folder(), None)
        key = public_part(person)
    except AgentgovError as error:
        return {"error": error.message, "help": list(error.hint)}
    if key is None:
        return {"file": str(person.file), "named_by": person.source}
    return {
        "file": None if person.file is None else str(person.file),
        "named_by": person.source,
        "fingerprint": key.fingerprint,
        "algorithm": key.algorithm,
        "line": key.line,
    }


def _operator(session: Session) -> str | None:
    """The fingerprint of the key that stands behind this clone's record, as remembered on this machine."""
    from agentgov.gates.adoption import operator_key
    from agentgov.ledger.sshkey import parse_public_key

    pinned = operator_key(session.repo, session.state)
    return None if pinned is None else parse_public_key(pinned).fingerprint


def _person(people: People, name: str) -> Mapping[str, Any]:
    keys = []
    for line in people.lines_of(name):
        gone = people.revocations_of(line.key)
        keys.append(
            {
                "fingerprint": line.key.fingerprint,
                "algorithm": line.key.algorithm,
                "counts": line.is_usable and not gone,
                "revoked": bool(gone),
                "valid_before": line.valid_before,
                "line": line.number,
            }
        )
    return {"name": name, "names": people.names_of(name), "keys": keys}


def _revocation(people: People, number: int) -> Mapping[str, Any]:
    revocation = people.revocations[number]
    return {
        "name": revocation.name,
        "scope": revocation.scope,
        "keys": list(revocation.fingerprints),
        "reason": revocation.reason,
        "frozen": [
            {"record": head.log, "size": head.size, "root": head.root.hex()}
            for _, head in sorted(revocation.heads.items())
        ],
    }


def _witnesses(session: Session, files: TrustFiles) -> Mapping[str, Any]:
    """Who witnesses records, and how many of them it takes."""
    from agentgov.cli.keys_witnesses import read_policy

    policy = read_policy(session, files.base.commit)
    if policy is None:
        return {"quorum": None, "keys": []}
    keys = [{"name": name, "key": key.text()} for name, key in policy.witnesses.items()]
    return {"quorum": policy.quorum, "keys": keys}


def _show(out: Screen, found: Mapping[str, Any]) -> None:
    log_key = found["log_key"]
    if log_key is None:
        out.line("this clone has no record with a key of its own yet: agentgov run -- AGENT...")
    else:
        out.line(f"this clone's record   {log_key['record']}", "bold")
        out.line(f"  key                 {log_key['key']}")
        out.line(f"                      {log_key['fingerprint']}, in the state folder on this machine")
    for key in found["session_keys"]:
        state = "running" if key["live"] else "not running: the next command closes it"
        out.line(f"  run {key['run']}           key of entry {key['entry']}, {state}")
    yours = found["your_key"]
    if "fingerprint" in yours:
        out.line(f"your key              {yours['fingerprint']}  {yours['algorithm']}  ({yours['named_by']})")
    else:
        out.line(f"your key              none: {yours.get('error', 'its public part is not there')}")
        for hint in yours.get("help", ()):
            out.line(f"                      help: {hint}")
    if found["operator"] is not None:
        out.line(f"  stands behind it    {found['operator']}, remembered on this machine")
    where = f"{found['read_from']['branch']} {found['read_from']['commit'][:7]}"
    count = sum(any(key["counts"] for key in person["keys"]) for person in found["trusted"])
    out.line(f"trusted on {where}: {plural(count, 'person') if count else 'nobody'}", "bold")
    rows = [_row(person, key) for person in found["trusted"] for key in person["keys"]]
    if rows:
        out.columns(["  WHO", "KEY", "KIND", "STATE"], rows, elastic=0)
    _show_revoked(out, found)
    witnesses = found["witnesses"]
    if witnesses["keys"]:
        out.line(f"witnesses ({witnesses['quorum']} is enough)", "bold")
        for witness in witnesses["keys"]:
            out.line(f"  {witness['name']}  {witness['key']}")
    for problem in found["problems"]:
        notes().line(f"not understood, so it trusts nobody: .agentgov/allowed_signers {problem}")
    out.line(
        f"come in: {'agentgov keys trust' if 'fingerprint' in yours else 'agentgov keys new'}"
        "        leave, or lose a key: agentgov keys revoke PERSON",
        "dim",
    )


def _row(person: Mapping[str, Any], key: Mapping[str, Any]) -> list[str]:
    state = "revoked" if key["revoked"] else "counts" if key["counts"] else "for something else"
    if key["valid_before"] is not None and not key["revoked"]:
        state += f", until {key['valid_before']}"
    return [f"  {person['name']}", key["fingerprint"][:_SHORT] + "...", key["algorithm"], state]


def _show_revoked(out: Screen, found: Mapping[str, Any]) -> None:
    if found["revoked"]:
        out.line("revoked", "bold")
    for gone in found["revoked"]:
        what = "everything" if gone["scope"] == "person" else plural(len(gone["keys"]), "key")
        frozen = gone["frozen"]
        kept = (
            ", ".join(f"{head['record'][9:17]} up to entry {head['size'] - 1}" for head in frozen[:3])
            if frozen
            else "nothing they signed counts"
        )
        more = "" if len(frozen) <= 3 else f" and {len(frozen) - 3} more records"
        reason = f"  ({gone['reason']})" if gone["reason"] else ""
        out.line(f"  {gone['name']}  {what}; stays good: {kept}{more}{reason}")
