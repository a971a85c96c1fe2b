"""`agentgov approve`: sign off exactly this result for a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentgov.cli.gate import home_folder, request_for
from agentgov.cli.screen import notes, print_json
from agentgov.cli.session import Session


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="The run whose result you approve.")],
    message: Annotated[str, typer.Option("--message", "-m", help="Why, in your words.")],
    into: Annotated[
        str | None, typer.Option("--into", metavar="BRANCH", help="The branch; the run's own if left out.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Sign with this SSH key, not the one of your settings."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,...}.')] = False,
) -> None:
    """Sign off exactly this result for a branch, with your SSH key.

    The signature names the result's tree and its change from the base: it survives squash and merge, and
    dies with any other byte. `ssh-keygen` signs; it may ask for your passphrase or a touch.

    It is given in the clone that ran it, where the result lies. A reviewer at somebody else's desk names
    their own key: it stays where it is, also in an ssh-agent or a hardware key.

    Exit codes: 0 signed. 13: the key was revoked. 2: no such run or key. 12 or 3: the record does not hold.

    Examples:

      agentgov approve 7kq2f -m "read it, ran it"

      agentgov approve 7kq2f -m "for alice" --key ~/.ssh/review_ed25519
    """
    from agentgov.harness import people, promoting

    session = Session.here()
    record, _ = session.resolve(run_name)
    request = request_for(session, record, into, None, verified=False)
    with session.settled(record) as (work, run):
        promoting.bound_result(run)
        person = people.find_key(session.repo, home_folder(), key)
        done = promoting.approve(work, run, request, person, message, own=key is None)
    if as_json:
        print_json(
            {
                "v": 1,
                "run": run.run,
                "entry": done.seq,
                "target": done.target,
                "result": done.result,
                "needed": done.is_needed,
            }
        )
        return
    branch = done.target.removeprefix("refs/heads/")
    out = notes()
    out.line(f"agentgov {run.run}: approved for {branch}, result tree {done.result[:7]}", "bold")
    if done.endorsed_now:
        out.line("  your key now stands behind this clone's record; it is remembered here as the operator's")
    if not done.is_needed:
        out.line(f"  {branch} is not protected: promoting does not need it")
    out.line(f"  next      agentgov promote {run.run} --into {branch}")
