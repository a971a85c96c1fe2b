"""`agentgov keys new`: make an SSH key to sign with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from agentgov.cli.screen import notes, print_json


def command(
    hardware: Annotated[
        bool, typer.Option("--hardware", help="Keep the key in a FIDO2 device; each signature needs a touch.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", help="Where it goes; ~/.ssh/id_ed25519 or id_ed25519_sk."),
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Ask for no passphrase: whoever reads the file can sign.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"file":...}.')] = False,
) -> None:
    """Make an SSH key to sign approvals with; `ssh-keygen` makes it.

    No key is ever overwritten, and no setting of git is changed: the commands for that are printed.
    Exit codes: 0 made, 15 there is one already, 10 an agent asks, 2 no terminal to ask for a passphrase on,
    1 it failed.

    Examples:

      agentgov keys new

      agentgov keys new --hardware
    """
    import sys

    from agentgov.cli.gate import home_folder
    from agentgov.errors import UsageError
    from agentgov.ledger.keygen import make_key

    _demand_person()
    home = home_folder()
    if file is None:
        if home is None:
            raise UsageError(
                "there is no home folder for a key", id="AG0319", hint="agentgov keys new --file PATH"
            )
        file = home / ".ssh" / ("id_ed25519_sk" if hardware else "id_ed25519")
    if not no_passphrase and not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for a passphrase on",
            id="AG0320",
            hint="run it in a terminal, or add --no-passphrase",
        )
    key = make_key(file.absolute(), hardware=hardware, comment=_comment(), passphrase=not no_passphrase)
    public = shlex.quote(f"{file.absolute()}.pub")
    if as_json:
        print_json({"v": 1, "file": str(file.absolute()), "line": key.line, "fingerprint": key.fingerprint})
        return
    out = notes()
    out.line(f"agentgov: made {file}, {key.fingerprint}", "bold")
    out.line("  sign with it   approvals only, or git's commits and tags as well:")
    out.line(f"    git config --global agentgov.signingKey {public}")
    out.line(f"    git config --global gpg.format ssh && git config --global user.signingKey {public}")
    out.line("  be trusted     agentgov keys trust        a branch with your key, for a pull request")


def _demand_person() -> None:
    """Refuse an agent: a key that it made would be taken for the person's, and it has the private part."""
    from agentgov.cli.session import Session
    from agentgov.errors import UsageError

    try:
        session = Session.here(bare_ok=True)
    except UsageError:
        # A key is also made outside of any repository, where no run goes on.
        return
    session.demand_person()


def _comment() -> str:
    """Whose key it is, as git knows them here."""
    from agentgov.errors import AgentgovError
    from agentgov.git import Git

    try:
        done = Git(None).plain("config", "--get", "user.email")
    except AgentgovError:
        return "agentgov"
    email = done.stdout.decode("utf-8", "replace").strip()
    return email if done.ok and email.isprintable() and email else "agentgov"
