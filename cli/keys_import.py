"""`agentgov keys import`: trust many keys at once, from a file."""

from __future__ import annotations

from typing import Annotated

import typer

from agentgov.cli.session import Session


def command(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-", help="Trust-file lines, or bare public keys, one a line.")
    ],
    person: Annotated[
        str | None, typer.Option("--for", metavar="PERSON", help="Whose the bare public keys are.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"added":[...],...}.')] = False,
) -> None:
    """Trust many keys at once: one commit on a new branch, for a pull request.

    The file holds lines of another trust file, or a person's public keys as forges list them. Nothing
    is fetched: hand the list in. Keys that are trusted already are passed over. Exit codes: 0 made, or
    nothing to add; 15 a key is somebody else's, or was revoked; 2 a line is no key that can be added.

    Examples:

      agentgov keys import team.allowed_signers

      agentgov keys import bob.keys --for bob@example.org
    """
    from agentgov.cli.keys_change import read_keys
    from agentgov.cli.keys_trust import add
    from agentgov.ledger.trust_text import parse_keys

    session = Session.here()
    session.demand_person()
    add(session, parse_keys(read_keys(source), person), as_json=as_json)
