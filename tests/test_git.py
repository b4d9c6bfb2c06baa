"""What git and CI say, on real repositories."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.git import author, ci_branch, first_parents, fork_point, git_branch, git_state, shallow_remedy
from results.errors import NotComparableError, UsageError


def git(folder: Path, *arguments: str) -> str:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, env=os.environ | identity
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path, branch: str = "main") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", branch)
    return folder


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """main: one - two - three; change: two - x - y, which is checked out."""
    folder = repository(tmp_path / "work")
    ids = {name: commit(folder, name) for name in ("one", "two")}
    git(folder, "checkout", "-q", "-b", "change")
    ids |= {name: commit(folder, name) for name in ("x", "y")}
    git(folder, "checkout", "-q", "main")
    ids["three"] = commit(folder, "three")
    git(folder, "checkout", "-q", "change")
    monkeypatch.chdir(folder)
    return ids


@pytest.mark.parametrize(
    ("variables", "branch"),
    [
        ({}, None),
        ({"GITHUB_HEAD_REF": "change", "GITHUB_BASE_REF": "main", "GITHUB_REF_NAME": "12/merge"}, "change"),
        ({"GITHUB_HEAD_REF": "", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch"}, "main"),
        ({"GITHUB_HEAD_REF": "", "GITHUB_REF_NAME": "v1.0", "GITHUB_REF_TYPE": "tag"}, None),
        ({"GITHUB_HEAD_REF": "", "GITHUB_REF_NAME": "12/merge", "GITHUB_REF_TYPE": "branch"}, None),
        ({"GITHUB_REF_NAME": "12/merge"}, None),
        ({"GITHUB_REF_NAME": ""}, None),
        ({"GITHUB_HEAD_REF": "main", "GITHUB_BASE_REF": "main", "GITHUB_REF_NAME": "12/merge"}, None),
        ({"CI_COMMIT_REF_NAME": "main", "CI_COMMIT_BRANCH": "main"}, "main"),
        ({"CI_COMMIT_REF_NAME": "v1.0", "CI_COMMIT_TAG": "v1.0"}, None),
        ({"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "change", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}, "change"),
        ({"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}, None),
    ],
)
def test_the_branch_that_ci_builds(variables: dict[str, str], branch: str | None) -> None:
    assert ci_branch(variables) == branch


@pytest.mark.slow
def test_git_state_of_a_checkout_and_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_state() == (None, None)
    assert git_branch({}) is None
    repository(tmp_path)
    assert git_state() == (None, None)  # no commit yet
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", ".")
    first = commit(tmp_path, "one")
    assert git_state() == (first, False)
    (tmp_path / "file").write_text("2")
    assert git_state() == (first, True)


@pytest.mark.slow
def test_a_checked_out_branch_counts_more_than_what_ci_says(forked: dict[str, str]) -> None:
    variables = {"GITHUB_HEAD_REF": "other", "GITHUB_REF_NAME": "main"}
    assert git_branch(variables) == "change"
    git(Path(), "checkout", "-q", "--detach")
    assert git_branch(variables) == "other"
    assert git_branch({}) is None


@pytest.mark.slow
def test_the_fork_point_is_found_from_here_and_from_any_commit(forked: dict[str, str]) -> None:
    found = fork_point(None)
    assert (found.branch, found.head, found.commit) == ("main", forked["y"], forked["two"])
    assert fork_point(forked["x"][:10], "main").head == forked["x"]
    assert fork_point("c0ffee0", "main").head == forked["y"]  # of another repository
    assert fork_point(forked["three"], "main").commit == forked["three"]
    assert first_parents(forked["two"]) == [forked["two"], forked["one"]]


@pytest.mark.slow
def test_commits_that_were_merged_in_are_no_ancestors(forked: dict[str, str]) -> None:
    git(Path(), "checkout", "-q", "main")
    git(Path(), "merge", "-q", "--no-ff", "-m", "merged", "change")
    assert first_parents("HEAD")[1:] == [forked["three"], forked["two"], forked["one"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nosuch", "--all", "x\0y", "", "change~1"])
def test_names_that_are_no_branch_are_refused(forked: dict[str, str], name: str) -> None:
    if not name:
        git(Path(), "branch", "-m", "main", "trunk")
    with pytest.raises(UsageError, match=r"There is no branch .* in this checkout"):
        fork_point(None, name or None)


@pytest.mark.slow
def test_without_a_checkout_there_is_no_fork_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="needs git and a checkout"):
        fork_point(None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == (None, None)


@pytest.mark.slow
def test_unrelated_branches_have_no_fork_point(forked: dict[str, str]) -> None:
    git(Path(), "checkout", "-q", "--orphan", "new")
    commit(Path(), "new")
    with pytest.raises(NotComparableError, match=r"have no commit in common here\.$"):
        fork_point(None, "main")


@pytest.mark.slow
def test_a_clone_finds_the_branch_at_its_remote_and_the_nearer_one_counts(
    forked: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--no-local", "work", "clone")  # its default is what is checked out there: change
    monkeypatch.chdir(clone)
    assert fork_point(None).branch == "change"
    found = fork_point(None, "main")
    assert (found.branch, found.commit) == ("main", forked["two"])
    git(clone, "branch", "-q", "main", forked["one"])  # a local branch that is behind
    assert fork_point(None, "main").commit == forked["two"]
    assert fork_point(None, "origin/main").commit == forked["two"]


@pytest.mark.slow
def test_a_shallow_clone_says_how_to_get_the_rest(
    forked: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--no-local", "--depth", "1", "--no-single-branch", f"file://{tmp_path}/work", "shallow")
    monkeypatch.chdir(shallow)
    assert "fetch-depth: 0" in shallow_remedy()
    with pytest.raises(NotComparableError, match=r"no commit in common here\. This checkout is shallow.*fetch-depth: 0"):
        fork_point(None, "main")
    with pytest.raises(UsageError, match=r"There is no branch 'nosuch'.*fetch-depth: 0"):
        fork_point(None, "nosuch")
    git(shallow, "fetch", "-q", "--unshallow")
    assert fork_point(None, "main").commit == forked["two"]
    assert shallow_remedy() == ""


@pytest.mark.slow
def test_the_author_is_gits_user_or_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LOGNAME", "somebody")
    assert author() == "somebody"
    (tmp_path / "config").write_text("[user]\nname = Ada\n")
    assert author() == "Ada"
    (tmp_path / "config").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    assert author() == "Ada <ada@example.org>"
