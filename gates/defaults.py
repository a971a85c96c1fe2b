"""The rules that hold when nobody wrote any, and next to those that somebody wrote.

Rule kept here: they stop what is hardly ever wanted and never ask. An ordinary day of commands passes; a test
holds them to it.
"""

from __future__ import annotations

from agentgov.gates.rules import BUILTIN_PREFIX, OUTSIDE, Rule

WHERE = "built-in rules"

GOVERNANCE = (
    ".agentgov.toml", ".agentgov/**",
    ".git/agentgov/**", ".git/hooks/**", ".git/config", ".git/config.worktree", ".git/info/attributes",
    ".git/commondir",
    "{git}/agentgov/**", "{git}/hooks/**", "{git}/config", "{git}/config.worktree", "{git}/info/attributes",
    ".claude/settings.json", ".claude/settings.local.json", ".claude/hooks/**", ".codex/config.toml",
    ".codex/hooks.json",
    ".codex/hooks/**", ".gemini/settings.json", ".cursor/hooks.json", ".opencode/plugins/**",
    ".github/hooks/**",
    ".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS",
    "~/.claude/settings.json", "~/.claude/settings.local.json", "~/.codex/config.toml", "~/.codex/hooks.json",
    "~/.gemini/settings.json",
    "~/.cursor/hooks.json", "~/.gitconfig", "~/.config/git/**", "~/.config/agentgov/**",
    "~/.ssh/authorized_keys", "~/.ssh/config",
)  # fmt: skip
"""What decides what an agent may do, or runs without being asked."""

SECRETS = (
    "~/.ssh/id_*", "!~/.ssh/*.pub", "~/.aws/credentials", "~/.netrc", "~/.pypirc", "~/.git-credentials",
    "~/.config/gh/hosts.yml",
    "~/.docker/config.json", "~/.kube/config", "~/.gnupg/private-keys-v1.d/**",
    "~/.config/gcloud/credentials.db",
    "~/.config/gcloud/application_default_credentials.json", "~/.vault-token", "~/.config/op/**",
    "/**/.env", "/**/.env.*", "!/**/.env.example", "!/**/.env.sample", "!/**/.env.template", "!/**/.env.dist",
    "!/**/.env.test", "!/**/.env.ci",
    "/**/*.pem", "!/**/cacert.pem", "!/**/*cert*.pem", "!/**/*chain*.pem", "!/**/*.pub.pem", "!/etc/ssl/**",
    "!/usr/**",
    "/**/id_rsa", "/**/id_ed25519", "/**/id_ecdsa", "/proc/*/environ", "/etc/shadow",
)  # fmt: skip
"""Files whose content is a key or a password."""

BUILTIN_SETS = {"governance": GOVERNANCE, "secrets": SECRETS}

BUILTIN_RULES = (
    Rule(
        BUILTIN_PREFIX + "outside",
        "deny",
        ("fs.delete",),
        paths=(OUTSIDE,),
        where=WHERE,
        reason="an agent deletes nothing outside its workspace",
    ),
    Rule(
        BUILTIN_PREFIX + "governance",
        "deny",
        ("fs.write", "fs.delete"),
        paths=GOVERNANCE,
        where=WHERE,
        exact_only=True,
        reason="an agent does not change what governs it",
    ),
    Rule(
        BUILTIN_PREFIX + "secrets",
        "deny",
        ("fs.read",),
        paths=SECRETS,
        where=WHERE,
        exact_only=True,
        reason="this file holds a key or a password",
    ),
    Rule(
        BUILTIN_PREFIX + "record",
        "deny",
        ("fs.read", "fs.write", "fs.delete"),
        paths=("{state}/**", "!**"),
        where=WHERE,
        exact_only=True,
        reason="the keys of the record are not the agent's",
    ),
    Rule(
        BUILTIN_PREFIX + "force-push",
        "deny",
        ("exec",),
        facts=("force-push",),
        where=WHERE,
        reason="this push can drop commits or branches of others",
    ),
    Rule(
        BUILTIN_PREFIX + "gates",
        "deny",
        ("exec",),
        programs=("agentgov approve", "agentgov promote", "agentgov answer"),
        where=WHERE,
        reason="an agent does not judge its own work",
    ),
)
