"""`agentgov keys`: onboarding in one command and one pull request, rotation, and what a revocation leaves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.git import discover
from agentgov.ledger.anchor_store import write_cosigned
from agentgov.ledger.cosignature import cosign, witness_key
from agentgov.ledger.note import parse_note
from agentgov.ledger.revocation import parse_revoked
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash

WITNESS = PrivateKey(bytes([7]) * 32)
WITNESS_KEY = witness_key("ci.example.org", WITNESS.public_key)
POLICY = f"witness ci {WITNESS_KEY.text()}\nquorum ci\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of alice, who works here, and of bob and carol."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "bob", "carol"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True
        )
    return folder


@pytest.fixture
def shop(make_repo: MakeRepo, keys: Path, git: GitRunner) -> Callable[..., Path]:
    """Makes a repository in which alice works."""

    def make(**files: str) -> Path:
        repo = make_repo(files={"a.txt": "one\n", **files})
        git(repo, "config", "agentgov.signingKey", str(keys / "alice"))
        return repo

    return make


def member(keys: Path, name: str) -> str:
    return f"{name}@example.org {(keys / f'{name}.pub').read_text()}"


def everything(repo: Path, git: GitRunner) -> list[Any]:
    """What a command must leave alone: HEAD, the index' bytes, the stash, the files, the settings."""
    files = [p for p in sorted(repo.rglob("*")) if ".git" not in p.relative_to(repo).parts and p.is_file()]
    return [
        git(repo, "rev-parse", "HEAD"),
        git(repo, "symbolic-ref", "HEAD"),
        (repo / ".git" / "index").read_bytes(),
        (repo / ".git" / "config").read_bytes(),
        git(repo, "status", "--porcelain=v1", "--ignored"),
        git(repo, "stash", "list"),
        [(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in files],
    ]


def merge(repo: Path, git: GitRunner, said: Any) -> None:
    git(repo, "merge", "-q", said.json["change"]["branch"])


def test_onboarding_is_one_command_and_one_branch_and_touches_nothing_of_the_users(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner
) -> None:
    repo = shop()
    (repo / "a.txt").write_text("edited\n")
    (repo / "staged").write_text("s\n")
    git(repo, "add", "staged")
    before = everything(repo, git)
    said = agentgov(repo, "keys", "trust")
    assert everything(repo, git) == before
    branch = git(repo, "branch", "--list", "agentgov/keys-trust-*", "--format=%(refname:short)")
    assert f"git merge {branch}" in said.err
    assert git(repo, "rev-parse", f"{branch}^") == git(repo, "rev-parse", "main")
    assert git(repo, "diff", "--name-only", "main", branch) == ".agentgov/allowed_signers"
    assert git(repo, "log", "-1", "--format=%an <%ae> %s", branch) == (
        "Alice Example <alice@example.org> Trust a key of alice@example.org"
    )
    git(repo, "fsck", "--strict")
    again = agentgov(repo, "keys", "trust", "--json").json
    assert again["change"]["is_new"] is False
    assert again["change"]["branch"] == branch
    git(repo, "stash", "-q")
    git(repo, "merge", "-q", branch)
    assert agentgov(repo, "keys", "trust", "--json").json == {"v": 1, "added": [], "change": None}
    listed = agentgov(repo, "keys", "list", "--json").json
    assert [(p["name"], p["keys"][0]["counts"]) for p in listed["trusted"]] == [("alice@example.org", True)]


def test_a_trust_file_that_is_there_is_extended_and_its_other_bytes_stay(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, keys: Path
) -> None:
    old = "# caf\udce9 \n" + member(keys, "alice").rstrip("\n")
    raw = old.encode("utf-8", "surrogateescape")
    repo = shop(**{".agentgov/allowed_signers": raw, ".agentgov/other": "kept\n"})
    said = agentgov(repo, "keys", "trust", "bob@example.org", "--key", keys / "bob.pub", "--json")
    shown = git(repo, "show", f"{said.json['change']['branch']}:.agentgov/allowed_signers")
    assert shown.startswith(old + "\nbob@example.org namespaces=")
    assert git(repo, "show", f"{said.json['change']['branch']}:.agentgov/other") == "kept"


def test_trust_is_taken_from_the_remotes_branch_and_the_push_is_printed(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, tmp_path: Path
) -> None:
    origin = shop()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    git(clone, "config", "agentgov.signingKey", git(origin, "config", "agentgov.signingKey"))
    git(clone, "commit", "-q", "--allow-empty", "-m", "not pushed")
    said = agentgov(clone, "keys", "trust")
    branch = git(clone, "branch", "--list", "agentgov/*", "--format=%(refname:short)")
    assert f"git push origin {branch}" in said.err
    assert "open a pull request into main" in said.err
    assert git(clone, "rev-parse", f"{branch}^") == git(clone, "rev-parse", "origin/main")


def test_the_push_is_printed_where_the_remotes_default_branch_is_not_known(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, tmp_path: Path
) -> None:
    repo = shop()
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "there.git")], check=True)
    git(repo, "remote", "add", "there", str(tmp_path / "there.git"))
    git(repo, "push", "-q", "-u", "there", "main")
    said = agentgov(repo, "keys", "trust")
    branch = git(repo, "branch", "--list", "agentgov/*", "--format=%(refname:short)")
    assert f"git push there {branch}" in said.err


@pytest.mark.parametrize("link", ["agentgov-is-a-file", "signers-is-a-link"])
def test_something_else_in_the_place_of_the_trust_file_is_refused(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, keys: Path, link: str
) -> None:
    repo = make_repo(files={".agentgov": "x"} if link == "agentgov-is-a-file" else {".agentgov/x": "x"})
    git(repo, "config", "agentgov.signingKey", str(keys / "alice"))
    if link == "signers-is-a-link":
        (repo / ".agentgov" / "allowed_signers").symlink_to("/etc/passwd")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", "link")
    said = agentgov(repo, "keys", "trust", code=2)
    assert said.err.startswith(("error[AG0087]", "error[AG0103]"))
    assert git(repo, "branch", "--format=%(refname:short)") == "main"


def test_a_key_is_only_one_persons(agentgov: Cli, shop: Callable[..., Path], keys: Path) -> None:
    repo = shop(**{".agentgov/allowed_signers": member(keys, "bob")})
    said = agentgov(repo, "keys", "trust", "mallory", "--key", keys / "bob.pub", code=15)
    assert "bob@example.org's" in said.err
    for name in ("two words", "*", "a,b", "#x", "x\x1b[2J", ""):
        assert agentgov(repo, "keys", "trust", name, "--key", keys / "carol.pub", code=2).err.startswith(
            "error[AG0424]"
        )


def test_a_list_of_keys_is_imported_at_once(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, keys: Path, tmp_path: Path
) -> None:
    repo = shop(**{".agentgov/allowed_signers": member(keys, "alice")})
    bare = tmp_path / "bob.keys"
    bare.write_text(
        "".join(" ".join((keys / f"{n}.pub").read_text().split()[:2]) + "\n" for n in ("bob", "carol"))
    )
    assert agentgov(repo, "keys", "import", bare, code=2).err.startswith("error[AG0427]")
    said = agentgov(repo, "keys", "import", bare, "--for", "bob@example.org", "--json").json
    assert [item["person"] for item in said["added"]] == ["bob@example.org"] * 2
    team = tmp_path / "team"
    team.write_text("# team\n" + member(keys, "alice") + member(keys, "carol"))
    said = agentgov(repo, "keys", "import", team, "--json").json
    assert [item["person"] for item in said["added"]] == ["carol@example.org"]
    team.write_text("no key at all\n")
    assert agentgov(repo, "keys", "import", team, code=2).err.startswith("error[AG0427]")
    assert agentgov(repo, "keys", "import", tmp_path / "none", code=2).err.startswith("error[AG0322]")


def test_a_new_key_never_overwrites_and_changes_no_setting(
    agentgov: Cli, shop: Callable[..., Path], home: Path
) -> None:
    repo, settings = shop(), (home / ".gitconfig").read_bytes()
    assert agentgov(repo, "keys", "new", code=2).err.startswith("error[AG0320]")
    said = agentgov(repo, "keys", "new", "--no-passphrase")
    made = home / ".ssh" / "id_ed25519"
    assert made.stat().st_mode & 0o077 == 0
    assert made.parent.stat().st_mode & 0o077 == 0
    assert f"git config --global agentgov.signingKey {made}.pub" in said.err
    assert (home / ".gitconfig").read_bytes() == settings
    content = made.read_bytes()
    assert agentgov(repo, "keys", "new", "--no-passphrase", code=15).err.startswith("error[AG0428]")
    made.rename(made.with_name("moved"))
    assert agentgov(repo, "keys", "new", "--no-passphrase", code=15).err.startswith("error[AG0428]")
    assert made.with_name("moved").read_bytes() == content
    assert sorted(p.name for p in made.parent.iterdir()) == ["id_ed25519.pub", "moved"]


def test_an_agent_cannot_change_who_is_trusted(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, keys: Path
) -> None:
    repo = shop(**{".agentgov/allowed_signers": member(keys, "bob")})
    program = f"'{sys.executable}' -m agentgov keys"
    script = f"for c in trust rotate 'revoke bob@example.org'; do {program} $c; echo $? >> codes; done"
    agentgov.shell(repo, script, "--workspace", "in-place")
    assert (repo / "codes").read_text().split() == ["10", "10", "10"]
    assert "keys-" not in git(repo, "branch", "--format=%(refname:short)")


def witness_now(repo: Path, git: GitRunner) -> int:
    """The witness signs the newest saved head; returns its size."""
    repository = discover(repo)
    stream = (repo / ".git" / "agentgov" / "stream").read_text().strip()
    store = SealStore(repository.git(), stream, repository.object_format)
    newest = store.newest()
    assert newest is not None
    seal = store.read(newest)
    store.close()
    note = parse_note(seal.checkpoint)
    signed = note.with_signature(cosign(note, WITNESS_KEY, WITNESS.sign, seconds=1_800_000_000))
    write_cosigned(repository, stream, WITNESS_KEY, signed, seconds=1_800_000_000)
    return seal.size()


@pytest.fixture
def reviewed(agentgov: Cli, shop: Callable[..., Path], keys: Path) -> tuple[Path, list[str]]:
    """A repository with two runs, the first of them approved by bob."""
    signers = member(keys, "alice") + member(keys, "bob") + member(keys, "carol")
    repo = shop(
        **{
            ".agentgov/allowed_signers": signers,
            ".agentgov/witnesses": POLICY,
            ".agentgov.toml": "[review]\nrequired = 1\n",
        }
    )
    runs = [agentgov.play(repo, [bash(f"echo {n} >> {n}.txt")]) for n in ("two", "three")]
    agentgov(repo, "approve", runs[0], "-m", "read it", "--key", keys / "bob")
    # Any command that seals: the approval must be below a saved head.
    agentgov(repo, "prove", f"{runs[0]}:1", "-o", repo.parent / "proof")
    return repo, runs


def test_what_a_person_approved_before_they_left_stays_good_and_later_ones_are_refused(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner, keys: Path
) -> None:
    repo, runs = reviewed
    size = witness_now(repo, git)
    said = agentgov(repo, "keys", "revoke", "bob@example.org", "--reason", "left", "--json")
    (frozen,) = said.json["frozen"]
    assert (frozen["size"], frozen["witnessed"]) == (size, True)
    # Entered by hand on another machine: the branch is not merged yet here.
    agentgov(repo, "approve", runs[1], "-m", "late", "--key", keys / "bob")
    merge(repo, git, said)
    (revocation,) = parse_revoked((repo / ".agentgov" / "revoked").read_text())
    assert [head.size for head in revocation.heads.values()] == [size]
    assert 'bob@example.org valid-before="' in (repo / ".agentgov" / "allowed_signers").read_text()
    refused = agentgov(repo, "approve", runs[1], "-m", "later", "--key", keys / "bob", code=13)
    assert refused.err.startswith("error[AG0423]: the key of bob@example.org was revoked")
    refused = agentgov(repo, "promote", runs[1], code=11)
    assert "their key was revoked" in refused.err
    explained = agentgov(repo, "verify", "--explain").out
    assert "since left" in explained
    assert "1 approval by a revoked key, counted by nothing" in explained
    promoted = agentgov(repo, "promote", runs[0])
    assert "main is now" in promoted.err


def test_in_a_record_that_nobody_witnessed_nothing_of_theirs_counts_and_it_is_said(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, runs = reviewed
    said = agentgov(repo, "keys", "revoke", "bob@example.org")
    assert "nothing   of theirs counts any more in" in said.err
    assert "nobody has witnessed it" in said.err
    merge(repo, git, agentgov(repo, "keys", "revoke", "bob@example.org", "--json"))
    assert "their key was revoked" in agentgov(repo, "promote", runs[0], code=11).err
    assert agentgov(repo, "keys", "revoke", "bob@example.org", code=2).err.startswith("error[AG0090]")


def test_no_archive_that_somebody_pushed_keeps_anybody_from_being_revoked(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, _ = reviewed
    witness_now(repo, git)
    git(repo, "update-ref", "refs/agentgov/remotes/evil/archive/x", "main")
    git(repo, "update-ref", f"refs/agentgov/remotes/evil/ledger/{'f' * 32}", "main")
    said = agentgov(repo, "keys", "revoke", "bob@example.org", "--json").json
    assert said["problems"][0].startswith("evil's archive: ")
    assert {item["where"]: item["size"] > 0 for item in said["frozen"]} == {"here": True, "evil": False}
    said = agentgov(repo, "keys", "revoke", "bob@example.org", "--as-saved", "--json").json
    assert {item["where"]: item["size"] > 0 for item in said["frozen"]} == {"here": True, "evil": False}


def test_who_revokes_may_vouch_for_the_saved_head(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, runs = reviewed
    said = agentgov(repo, "keys", "revoke", "bob@example.org", "--as-saved", "--json")
    assert said.json["frozen"][0]["witnessed"] is False
    assert said.json["frozen"][0]["size"] > 0
    merge(repo, git, said)
    agentgov(repo, "verify")
    assert "main is now" in agentgov(repo, "promote", runs[0]).err


def test_a_record_rewritten_below_the_freeze_is_not_the_one_that_was_frozen(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, _ = reviewed
    said = agentgov(repo, "keys", "revoke", "bob@example.org", "--as-saved", "--json")
    merge(repo, git, said)
    path = repo / ".agentgov" / "revoked"
    (revocation,) = parse_revoked(path.read_text())
    (head,) = revocation.heads.values()
    path.write_text(path.read_text().replace(head.text(), head.text()[:-6] + "AAAAA="))
    git(repo, "commit", "-q", "-am", "another root")
    agentgov(repo, "verify", code=12)


def test_a_lost_key_is_revoked_and_its_owner_stays(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner, keys: Path
) -> None:
    repo, runs = reviewed
    merge(
        repo,
        git,
        agentgov(repo, "keys", "trust", "bob@example.org", "--key", keys.parent / fresh(keys), "--json"),
    )
    listed = agentgov(repo, "keys", "list", "--json").json
    bob = next(p for p in listed["trusted"] if p["name"] == "bob@example.org")
    old = bob["keys"][0]["fingerprint"]
    assert len(bob["keys"]) == 2
    merge(repo, git, agentgov(repo, "keys", "revoke", old, "--key", old, "--reason", "lost", "--json"))
    agentgov(repo, "approve", runs[1], "-m", "old", "--key", keys / "bob", code=13)
    agentgov(
        repo, "approve", runs[1], "-m", "new", "--key", str(keys.parent / fresh(keys)).removesuffix(".pub")
    )
    assert "main is now" in agentgov(repo, "promote", runs[1]).err
    agentgov(repo, "keys", "trust", "bob@example.org", "--key", keys / "bob.pub", code=15)


def fresh(keys: Path) -> str:
    """The public part of bob's next key, made once."""
    path = keys.parent / "bob-next"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return "bob-next.pub"


def test_open_runs_of_whoever_leaves_are_listed(
    agentgov: Cli, shop: Callable[..., Path], git: GitRunner, keys: Path
) -> None:
    repo = shop(**{".agentgov/allowed_signers": member(keys, "alice") + member(keys, "bob")})
    git(repo, "config", "user.email", "bob@example.org")
    waits = "touch ../started; while [ ! -e ../done ]; do sleep 0.05; done"
    started = subprocess.Popen(
        [sys.executable, "-m", "agentgov", "run", "--", "sh", "-c", waits],
        cwd=repo,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(repo.parent / "said").open("wb"),
    )
    try:
        wait_for(lambda: len(live_keys(agentgov, repo)) == 1, started, repo.parent / "said")
        wait_for(lambda: "running" in agentgov(repo, "log").out, started, repo.parent / "said")
        (live,) = live_keys(agentgov, repo)
        git(repo, "config", "user.email", "alice@example.org")
        assert agentgov(repo, "keys", "rotate", code=15).err.startswith("error[AG0325]")
        said = agentgov(repo, "keys", "revoke", "bob@example.org", "--json").json
        assert said["open_runs"] == [live["run"]]
    finally:
        started.kill()
        started.wait()


def live_keys(agentgov: Cli, repo: Path) -> list[Any]:
    """The keys of the runs that go on."""
    said = agentgov(repo, "keys", "list", "--json", code=None)
    return [key for key in said.json["session_keys"] if key["live"]] if said.code == 0 else []


def wait_for(condition: Callable[[], bool], started: subprocess.Popen[bytes], said: Path) -> None:
    """Wait for what must come while a process lives; its own words are the failure's."""
    while not condition():
        assert started.poll() is None, said.read_text()
        time.sleep(0.05)


def test_a_rotated_record_goes_on_under_a_new_key_and_is_endorsed_anew(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, runs = reviewed
    agentgov(repo, "approve", runs[0], "-m", "mine")
    before = agentgov(repo, "keys", "list", "--json").json["log_key"]
    said = agentgov(repo, "keys", "rotate", "--json").json
    after = agentgov(repo, "keys", "list", "--json").json["log_key"]
    assert said["log_key"] == after["key"] != before["key"]
    assert before["record"] == f"agentgov/{said['old']}"
    assert after["record"] == f"agentgov/{said['new']}"
    agentgov(repo, "verify")
    assert "stands behind this clone's record" in agentgov(repo, "approve", runs[0], "-m", "again").err
    assert "trusted: alice@example.org" in agentgov(repo, "verify").out


def test_a_persons_next_key_is_added_and_stands_behind_the_record(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner, keys: Path
) -> None:
    repo, runs = reviewed
    agentgov(repo, "approve", runs[0], "-m", "mine")
    git(repo, "config", "user.email", "alice@example.org")
    path = keys.parent / "alice-next"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    said = agentgov(repo, "keys", "rotate", "--person", "--key", path)
    assert "your new key now stands behind this clone's record" in said.err
    branch = git(repo, "branch", "--list", "agentgov/keys-trust-*", "--format=%(refname:short)")
    git(repo, "merge", "-q", branch)
    listed = agentgov(repo, "keys", "list", "--json").json
    alice = next(p for p in listed["trusted"] if p["name"] == "alice@example.org")
    assert [key["counts"] for key in alice["keys"]] == [True, True]
    assert listed["operator"] == alice["keys"][1]["fingerprint"]
    again = agentgov(repo, "keys", "rotate", "--person", "--key", path)
    assert "trusted already" in again.err
    assert agentgov(repo, "keys", "rotate", "--key", path, code=2).err.startswith("error[AG0326]")


def test_listing_works_in_a_clone_without_a_record_and_tells_what_is_not_understood(
    agentgov: Cli, shop: Callable[..., Path], keys: Path
) -> None:
    repo = shop(**{".agentgov/allowed_signers": "nonsense\n" + member(keys, "bob")})
    said = agentgov(repo, "keys", "list")
    assert "this clone has no record" in said.out
    assert ".agentgov/allowed_signers line 1: " in said.err
    assert agentgov(repo, "keys", "list", "--json").json["log_key"] is None


def test_a_file_of_revoked_keys_that_is_not_understood_stops_everything_that_trusts(
    agentgov: Cli, reviewed: tuple[Path, list[str]], git: GitRunner
) -> None:
    repo, runs = reviewed
    (repo / ".agentgov" / "revoked").write_text("agentgov-revoked v9\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "from the future")
    for command in (
        ["keys", "list"],
        ["keys", "trust"],
        ["verify"],
        ["approve", runs[0], "-m", "x"],
        ["promote", runs[0]],
    ):
        assert agentgov(repo, *command, code=2).err.startswith("error[AG0421]")
