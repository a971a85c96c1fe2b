"""`agentgov keys`: whose keys sign here, who is trusted, and who no longer is."""

from __future__ import annotations

import typer

from agentgov.cli.keys_import import command as import_keys
from agentgov.cli.keys_list import command as list_keys
from agentgov.cli.keys_new import command as new_key
from agentgov.cli.keys_revoke import command as revoke_keys
from agentgov.cli.keys_rotate import command as rotate_key
from agentgov.cli.keys_trust import command as trust_key

group = typer.Typer(
    name="keys",
    help="""Whose keys sign here, who is trusted, and who no longer is.

    A person signs with an SSH key; who is trusted stands in .agentgov/allowed_signers on the protected
    branch. This clone's record has a key of its own, outside the repository.

    Examples:

      agentgov keys list

      agentgov keys trust

      agentgov keys revoke bob@example.org --reason "left the company"
    """,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
group.command("list", short_help="Every key that matters here, and whether it counts.")(list_keys)
group.command("new", short_help="Make an SSH key to sign approvals with.")(new_key)
group.command("trust", short_help="Let a person's key be trusted, by a pull request.")(trust_key)
group.command("import", short_help="Trust many keys at once, by a pull request.")(import_keys)
group.command("rotate", short_help="Go on with a new key: this clone's, or your own.")(rotate_key)
group.command("revoke", short_help="Revoke a person or one key, by a pull request.")(revoke_keys)
