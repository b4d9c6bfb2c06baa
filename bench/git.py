"""What git says of the current folder's checkout: commit, branch, who works here, and where a branch began.

Reads only, and asks no network. What CI says instead of git stands here too. Which runs a commit has is `bench.references`'.
"""

import getpass
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from results.errors import NotComparableError, UsageError

DEFAULT_BRANCHES = ("main", "master")
FURTHEST = 1000
"""Commits before a fork point that are looked at."""


def git_state() -> tuple[str | None, bool | None]:
    """(commit, whether the tree has changes) of the current folder's checkout; (`None`, `None`) outside one."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return commit, None if status is None else bool(status)


def git_branch(variables: Mapping[str, str] = os.environ) -> str | None:
    """The branch of the current folder's checkout; where it is at a commit alone, the one that CI says it builds."""
    return _git("symbolic-ref", "--quiet", "--short", "HEAD") or ci_branch(variables)


def ci_branch(variables: Mapping[str, str]) -> str | None:
    """The branch that GitHub or GitLab say they build, of a pull request the one that it comes from.

    `None` for a tag, and for a pull request whose branch has the name of the one that it goes to: it comes from another
    repository, and its runs are not those of our branch.
    """
    asked_for = (
        ("GITHUB_HEAD_REF", "GITHUB_BASE_REF"),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
    )
    for source, target in asked_for:
        if branch := variables.get(source):
            return None if branch == variables.get(target) else branch
    name = variables.get("GITHUB_REF_NAME", "")
    if name and variables.get("GITHUB_REF_TYPE", "branch") == "branch" and not re.fullmatch(r"\d+/(merge|head)", name):
        return name
    return variables.get("CI_COMMIT_BRANCH") or None


def author() -> str:
    """Who works here: git's user as `Name <email>`, else the login name."""
    name, email = _git("config", "user.name"), _git("config", "user.email")
    if name or email:
        return " ".join(filter(None, (name, f"<{email}>" if email else "")))
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "unknown"


@dataclass(frozen=True)
class ForkPoint:
    """Where a commit left a branch."""

    branch: str
    head: str
    """The commit that was asked for."""
    commit: str
    """The newest one that both have; `head` itself where it never left."""


def fork_point(commit: str | None, branch: str | None = None) -> ForkPoint:
    """The newest commit that `commit` has in common with a branch.

    A branch is looked up here and at the remotes, and the nearer one counts: either may be behind the other.

    Args:
        commit: `None`, or one that this checkout does not know: its own.
        branch: `None`: what the remote `origin` calls its default, else `main` or `master`.

    Raises:
        UsageError: no checkout, or no such branch in it.
        NotComparableError: they have no commit in common, as far as this checkout knows.
    """
    here = (commit and _commit(commit)) or _commit("HEAD")
    if here is None:
        raise UsageError("A fork point needs git and a checkout with a commit: call `bench` in the repository's folder.")
    name, tips = _tips(branch)
    found = _git("merge-base", here, *tips)
    if not found:
        raise NotComparableError(f"{here[:12]} and {name} have no commit in common here. {shallow_remedy()}".rstrip())
    return ForkPoint(name, here, found)


def first_parents(commit: str) -> list[str]:
    """The commit and those before it on its own branch, newest first."""
    return (_git("rev-list", "--first-parent", f"--max-count={FURTHEST}", commit) or "").split()


def shallow_remedy() -> str:
    """A sentence with a remedy where this checkout lacks its older commits, else nothing."""
    if _git("rev-parse", "--is-shallow-repository") != "true":
        return ""
    return "This checkout is shallow: fetch the whole history (`git fetch --unshallow`; `fetch-depth: 0` for actions/checkout)."


def _tips(branch: str | None) -> tuple[str, list[str]]:
    """A branch and the commits that it stands at, here and at the remotes."""
    default = (_git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD") or "").removeprefix("origin/")
    names = [branch] if branch else list(dict.fromkeys(filter(None, (default, *DEFAULT_BRANCHES))))
    for name in names:
        refs = (f"refs/heads/{name}", f"refs/remotes/origin/{name}", f"refs/remotes/{name}")
        if tips := [tip for ref in refs if (tip := _git("show-ref", "--verify", "--hash", ref))]:
            return name, tips
    wanted = f"{branch!r}" if branch else "main or master"
    more = shallow_remedy() or "Fetch it, or name another one: fork-point:BRANCH."
    raise UsageError(f"There is no branch {wanted} in this checkout, and none at its remotes. {more}")


def _commit(name: str) -> str | None:
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}") or None


def _git(*arguments: str) -> str | None:
    """What git prints; `None` where it fails or is missing."""
    try:
        found = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: no text, or a NUL in a name
        return None
    return found.stdout.strip() if found.returncode == 0 else None
