"""The grammar of references to runs, and what each means in a store. What is measured in them is read by `bench.sides`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.baselines import is_removal, standing
from results.decided import Baseline
from results.errors import NotComparableError, UsageError
from results.format import plain
from results.stored_runs import StoredRun
from results.validation import nearest

Kind = Literal["file", "name", "baseline", "tag", "branch", "rolling", "fork-point"]
NAMED: tuple[Kind, ...] = ("baseline", "tag", "branch")
FOLLOWED = ("tag", "branch", "rolling", "fork-point")
"""What a baseline can follow."""
FORMS = "baseline:NAME, tag:NAME, branch:NAME, rolling:K, rolling:K:BRANCH, fork-point or fork-point:BRANCH"


@dataclass(frozen=True)
class Reference:
    """A reference as it was written."""

    text: str
    kind: Kind
    name: str = ""
    """Of what it names; of a window or a fork point: the branch, empty where none is said."""
    count: int = 0
    """Runs of a window."""


@dataclass(frozen=True)
class Meaning:
    """What a reference means in a store: runs, or a rule that finds them beside the other side."""

    words: str
    """What people call it, such as `baseline main` or `rolling:5`; empty for a run's own id."""
    rule: Reference | None = None
    """A branch, a window or a fork point; `None`: it means `run_ids`."""
    run_ids: tuple[str, ...] = ()

    @property
    def is_relative(self) -> bool:
        """Whether it means nothing without another side."""
        return self.rule is not None and self.rule.kind in ("rolling", "fork-point")


def parse_reference(text: str) -> Reference:
    """A reference in its parts.

    Raises:
        UsageError: it is none.
    """
    if text.endswith(".json"):
        return Reference(text, "file", text)
    kind, colon, rest = text.partition(":")
    if kind == "fork-point" and (rest or not colon):
        return Reference(text, "fork-point", rest)
    if kind == "rolling":
        count, _, branch = rest.partition(":")
        if not (count.isdecimal() and count.isascii() and 0 < int(count) <= 1000) or rest.endswith(":"):
            raise UsageError(f"{text!r} is no window: write rolling:K or rolling:K:BRANCH with K from 1 to 1000.")
        return Reference(text, "rolling", branch, int(count))
    if not colon and text:
        return Reference(text, "name", text)
    if named := next((one for one in NAMED if one == kind and rest), None):
        return Reference(text, named, rest)
    raise UsageError(f"{text!r} is no reference: write a run's id, a name, latest, a report.json, {FORMS}.")


def followed(text: str) -> Reference:
    """What a baseline is to follow.

    Raises:
        UsageError: it is no reference, or one that never moves.
    """
    reference = parse_reference(text)
    if reference.kind not in FOLLOWED:
        raise UsageError(
            f"A baseline cannot follow {text!r}: it follows rolling:K, fork-point, tag:NAME or branch:NAME. "
            "Without --follow it is pinned to the runs that are meant now."
        )
    return reference


def meaning(reference: Reference, runs: Sequence[StoredRun], moves: Sequence[Baseline]) -> Meaning:
    """What a reference means; reports in files are not known here.

    Args:
        runs: newest first.
        moves: of baselines, oldest first.

    Raises:
        UsageError: nothing, or several things, answer to it.
        NotComparableError: a baseline was taken away.
    """
    match reference.kind:
        case "name":
            return _of_name(reference, runs, moves)
        case "baseline":
            return _of_baseline(reference.name, runs, moves)
        case "tag":
            tagged = next((run.run_id for run in runs if reference.name in run.tags), None)
            if tagged is None:
                raise UsageError(f"No run has the tag {reference.name!r}: `bench show` lists the runs with their tags.")
            return Meaning(f"tag {reference.name}", run_ids=(tagged,))
        case "branch":
            if all(run.git_branch != reference.name for run in runs):
                raise UsageError(f"No run was made on a branch {reference.name!r}: `bench show RUN` says on which one it was.")
            return Meaning(f"branch {reference.name}", rule=reference)
        case _:
            return Meaning(reference.text, rule=reference)


def _of_name(reference: Reference, runs: Sequence[StoredRun], moves: Sequence[Baseline]) -> Meaning:
    name = reference.name
    if name == "latest":
        if not runs:
            raise UsageError("The store holds no runs yet: run `bench run SUITE` first.")
        return Meaning("latest", run_ids=(runs[0].run_id,))
    if any(run.run_id == name for run in runs):
        return Meaning("", run_ids=(name,))
    known = (
        ("baseline", name in standing(moves)),
        ("tag", any(name in run.tags for run in runs)),
        ("branch", any(run.git_branch == name for run in runs)),
    )
    kinds: list[Kind] = [kind for kind, is_known in known if is_known]  # type: ignore[misc]
    if len(kinds) > 1 and kinds[-1] == "branch":  # whoever tags runs of a branch with its name means these
        kinds.pop()
    if len(kinds) > 1:
        said = " or ".join(f"{kind}:{name}" for kind in kinds)
        raise UsageError(f"{name!r} is the name of a {' and of a '.join(kinds)}: say {said}.")
    if kinds:
        return meaning(replace(reference, kind=kinds[0]), runs, moves)
    begun = [run.run_id for run in runs if run.run_id.startswith(name)]
    if len(begun) == 1:
        return Meaning("", run_ids=(begun[0],))
    if any(move.name == name for move in moves):
        return _of_baseline(name, runs, moves)  # which says who took it away
    if begun:
        raise UsageError(f"{name!r} means several runs ({', '.join(begun[:3])} …): give more of the id.")
    raise UsageError(
        f"No run, baseline, tag or branch {name!r} in this store: `bench show` and `bench baseline list` say what is there."
    )


def _of_baseline(name: str, runs: Sequence[StoredRun], moves: Sequence[Baseline]) -> Meaning:
    newest = next((move for move in reversed(moves) if move.name == name), None)
    if newest is None:
        known = standing(moves)
        hint = nearest(name, known) if known else ": make one with `bench baseline set NAME RUN`."
        raise UsageError(f"No baseline is called {name!r}{hint}")
    if is_removal(newest):
        raise NotComparableError(
            f"Baseline {name!r} was taken away by {plain(newest.author)} ({plain(newest.reason)}): "
            f"set it anew with `bench baseline set {name} RUN`."
        )
    if newest.reference is None:
        return Meaning(f"baseline {name}", run_ids=newest.run_ids)
    try:
        followed = meaning(parse_reference(newest.reference), runs, moves)
    except UsageError as error:
        raise NotComparableError(f"Baseline {name!r} follows {newest.reference}: {error}") from error
    return replace(followed, words=f"baseline {name}, {newest.reference}")
