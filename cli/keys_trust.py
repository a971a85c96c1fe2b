"""`agentgov keys trust`: let a person's key be trusted, as a branch for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session

if TYPE_CHECKING:
    from agentgov.ledger.trust_text import NewKey


def command(
    principal: Annotated[
        str | None,
        typer.Argument(metavar="[PERSON]", help="Whose key it is; git's user.email if left out."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FILE|-", help="The public key; the one you sign with if left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"added":[...],...}.')] = False,
) -> None:
    """Let a person's key be trusted: one commit on a new branch, for a pull request.

    It extends .agentgov/allowed_signers as it stands on the protected branch. Your files, your index
    and the branch you are on are not touched, and nothing is pushed. Exit codes: 0 made, or trusted
    already; 15 the key is somebody else's, or was revoked; 2 it is no key that can be added.

    Examples:

      agentgov keys trust

      agentgov keys trust bob@example.org --key bob.pub
    """
    from agentgov.cli.keys_change import own_email, own_key, read_keys
    from agentgov.errors import UsageError
    from agentgov.ledger.trust_text import NewKey, check_principal, parse_keys

    session = Session.here()
    session.demand_person()
    name = check_principal(principal if principal is not None else own_email(session))
    if key is None:
        if principal is not None and principal != session.repo.config("user.email"):
            raise UsageError(
                f"the key of {principal!a} was not given",
                id="AG0324",
                hint="--key FILE, or --key - to paste it",
            )
        new = [NewKey(name, own_key(session))]
    else:
        new = parse_keys(read_keys(key), name)
    add(session, new, as_json=as_json)


def add(session: Session, new: list[NewKey], *, as_json: bool) -> None:
    """Add keys to the trust file, on a branch."""
    from agentgov.cli.keys_change import TrustFiles, change_json, say_change
    from agentgov.ledger.trust_text import add_keys

    files = TrustFiles.read(session)
    text, added = add_keys(files.signers, files.revoked, new)
    who = list(dict.fromkeys(item.principal for item in added))
    out = notes()
    if not added:
        if as_json:
            print_json({"v": 1, "added": [], "change": None})
        else:
            names = ", ".join(dict.fromkeys(item.principal for item in new))
            out.line(f"agentgov: {names} is trusted already on {files.base.name}, with this key")
        return
    subject = f"Trust {'a key' if len(added) == 1 else f'{len(added)} keys'} of {', '.join(who[:3])}"
    change = files.propose(session, {"allowed_signers": text}, subject, f"trust-{who[0]}")
    if as_json:
        listed = [{"person": item.principal, "fingerprint": item.key.fingerprint} for item in added]
        print_json({"v": 1, "added": listed, "change": change_json(change)})
        return
    out.line(f"agentgov: {subject[0].lower()}{subject[1:]}", "bold")
    for item in added:
        out.line(f"  key       {item.key.fingerprint}  {item.key.algorithm}  {item.principal}")
    say_change(out, change)
