"""`agentgov diff`: what a run, or some of its calls, changed."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from agentgov.cli.screen import notes, print_json, results
from agentgov.cli.session import Session
from agentgov.errors import UsageError
from agentgov.git import Git
from agentgov.ids import RunRef
from agentgov.ledger.history import RunRecord
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_DIR, Delta
from agentgov.text import encode_name, printable


def command(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN][:N | :A..B]", help="A run, one call, or calls A to B; the last run if left out."
        ),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only names and counts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='One object: {"v":1,"files":[...]}.')] = False,
) -> None:
    """What a run, or some of its calls, changed.

    The workspace is compared as it was, untracked files too. `:N` is from just before call N
    to just after it.

    Examples:

      agentgov diff              everything the last run changed

      agentgov diff :6           call 6 alone

      agentgov diff 7kq2f:3..9   from before call 3 to after call 9
    """
    session = Session.here()
    run, ref = session.resolve(what)
    before, after = _trees(run, ref)
    git = Git(session.layout.store)
    pair = ("--end-of-options", before, after)
    store = ObjectStore(session.layout.store, session.repo.objects_dir, session.repo.object_format)
    try:
        deltas = list(store.diff(before, after))
    finally:
        store.close()
    if as_json:
        files = [_delta_json(delta) for delta in deltas]
        print_json({"v": 1, "run": run.run, "from": before, "tree": after, "files": files})
        return
    form = ["--stat=100"] if stat else ["-p"]
    safe = (
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--no-renames",
        "--src-prefix=a/",
        "--dst-prefix=b/",
    )
    text = git.run("diff-tree", "-r", *form, *safe, *pair).stdout
    if not deltas:
        notes().line("nothing changed")
        return
    if text:
        results().diff(text.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"))
        sys.stdout.flush()
    for delta in deltas:
        # A patch has no word for them.
        if delta.new_mode == MODE_DIR:
            notes().line(f"new empty folder: {printable(delta.path)}/")
        elif delta.old_mode == MODE_DIR and delta.new_mode is None:
            notes().line(f"empty folder gone: {printable(delta.path)}/")


def _trees(run: RunRecord, ref: RunRef) -> tuple[str, str]:
    if ref.point in (None, "end"):
        # After a rollback the result was bound anew: what counts is what would land.
        after = run.tree_at("end") if run.result is None else str(run.result.body["tree"])
        return run.tree_at("start"), after
    if not isinstance(ref.point, int):
        raise UsageError("the start alone has no changes", id="AG0305", hint="agentgov diff RUN, or RUN:A..B")
    last = ref.end if ref.end is not None else ref.point
    run.tree_after(ref.point)
    return run.calls[ref.point].from_tree, run.tree_after(last)


def _delta_json(delta: Delta) -> dict[str, Any]:
    status = "A" if delta.old is None else "D" if delta.new is None else "M"
    return {
        "path": encode_name(delta.path),
        "status": status,
        "old_mode": None if delta.old_mode is None else f"{delta.old_mode:06o}",
        "new_mode": None if delta.new_mode is None else f"{delta.new_mode:06o}",
        "old": delta.old,
        "new": delta.new,
    }
