"""`agentgov keys rotate`: go on with a new key, of this clone's record or of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session

if TYPE_CHECKING:
    from agentgov.ledger.sshsig import PersonKey


def command(
    person: Annotated[
        bool, typer.Option("--person", help="Your own SSH key, not the key of this clone's record.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="With --person: the new key; your settings' if left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Go on with a new key.

    Without --person: this clone's record is ended and saved, and a new one with a new key continues
    it; the old key is removed, and the old record stays to be verified. With --person: your new key is
    added to the trust file, on a branch for a pull request, and stands behind this clone's record; what
    the old one signed stays good. A stolen one is revoked as well: agentgov keys revoke PERSON --key OLD.
    Exit codes: 0 done, 15 a run is going on here, 12 the record does not hold.

    Examples:

      agentgov keys rotate

      agentgov keys rotate --person --key ~/.ssh/id_ed25519_new
    """
    from agentgov.errors import UsageError

    session = Session.here()
    session.demand_person()
    if person:
        _rotate_person(session, key, as_json=as_json)
        return
    if key is not None:
        raise UsageError(
            "--key names a person's key", id="AG0326", hint="agentgov keys rotate --person --key FILE"
        )
    _rotate_log(session, as_json=as_json)


def _rotate_log(session: Session, *, as_json: bool) -> None:
    from agentgov.errors import ConflictError
    from agentgov.harness.state import live_runs
    from agentgov.ledger.genesis import ORIGIN_PREFIX
    from agentgov.ledger.note import NoteKey
    from agentgov.ledger.succession import begin_successor

    session.demand_record()
    # Opened first: what a killed recorder left open is closed in the record that it belongs to.
    session.stream.close()
    running = [state.run for state in live_runs(session.layout)]
    if running:
        raise ConflictError(
            f"a run is going on here: {', '.join(running)}",
            id="AG0325",
            hint="wait for its end, or end it; then: agentgov keys rotate",
        )
    done = begin_successor(
        session.repo, session.state, reason="rotated", clock=session.clock, random=session.random
    )
    vkey = NoteKey(ORIGIN_PREFIX + done.new, done.public_key).text()
    if as_json:
        print_json({"v": 1, "old": done.old, "new": done.new, "continues": done.size, "log_key": vkey})
        return
    out = notes()
    out.line("agentgov: this clone's record goes on with a new key", "bold")
    out.line(f"  before    {ORIGIN_PREFIX}{done.old}, {done.size} entries, ended and saved; its key is gone")
    out.line(f"  now       {vkey}")
    out.line("  who pinned or wrote down the old key needs the new one: agentgov keys list")


def _rotate_person(session: Session, given: Path | None, *, as_json: bool) -> None:
    from agentgov.cli.gate import home_folder
    from agentgov.cli.keys_change import own_email, own_key
    from agentgov.cli.keys_trust import add
    from agentgov.errors import AgentgovError
    from agentgov.harness.people import find_key, public_part
    from agentgov.ledger.trust_text import NewKey, check_principal

    name = check_principal(own_email(session))
    person = find_key(session.repo, home_folder(), given)
    public = own_key(session) if given is None else public_part(person)
    if public is None:
        raise AgentgovError("the public part of this key is not beside it", id="AG0323", where=str(given))
    add(session, [NewKey(name, public)], as_json=as_json)
    if session.is_bound and _endorse(session, person) and not as_json:
        notes().line("  your new key now stands behind this clone's record")


def _endorse(session: Session, person: PersonKey) -> bool:
    from agentgov.gates.adoption import endorsed_log, operator_key
    from agentgov.harness.people import endorse, public_part
    from agentgov.harness.settled import Workplace
    from agentgov.rollback.objects import ObjectStore

    public = public_part(person)
    pinned = operator_key(session.repo, session.state)
    is_behind = endorsed_log(session.repo, session.state) == session.stream.origin
    if public is not None and pinned == public.line and is_behind:
        return False
    store = ObjectStore(session.layout.store, session.repo.objects_dir, session.repo.object_format)
    try:
        work = Workplace(session.repo, session.stream, session.payloads, store, session.clock)
        return endorse(work, session.state, person, succeeds=True)
    finally:
        store.close()
