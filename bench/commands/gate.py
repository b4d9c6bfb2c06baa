"""`bench gate`: judge a run against a baseline by a policy, for a CI: reports, annotations, an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.verdict_output import (
    calibration_of,
    options_again,
    portable_reference,
    read_policy,
    reference_again,
    tell,
    verdict_options,
)

if TYPE_CHECKING:
    from bench.places import Place
    from results.gate import Judgement
    from results.outcome import Outcome
    from results.policy import Policy

MAIN = "main"
"""The baseline that a gate judges against unless told otherwise."""


@click.command()
@click.argument("run", required=False)
@click.option("--against", metavar="REF", help=f"What RUN must hold its own against.  [default: the baseline {MAIN}]")
@click.option("--github", is_flag=True, help="Print annotations too, and append the Markdown to GitHub's step summary.")
@click.option("--until-decided", is_flag=True, help="Measure more processes of the undecided cases until there is a verdict.")
@click.option("--suite", metavar="SUITE", help="With --until-decided: what is measured.")
@click.option("--set", "settings", multiple=True, metavar="AXIS=VALUE", help="With --until-decided: as of `bench run --set`.")
@click.option(
    "--a", "place_a", metavar="PLACE", help="With --until-decided: measure the baseline too, here: 'python=FILE folder=DIR'."
)
@click.option("--b", "place_b", metavar="PLACE", help="With --until-decided: where B is measured, if not by this installation.")
@click.option("--most", type=click.IntRange(min=1), help="With --until-decided: processes a side at the most.")
@verdict_options
def gate(
    run: str | None, against: str | None, github: bool, until_decided: bool, suite: str | None, settings: tuple[str, ...],
    place_a: str | None, place_b: str | None, most: int | None, policy_file: Path | None, allow: tuple[str, ...],
    format_name: str, outputs: tuple[Path, ...], store_url: str, as_json: bool,
) -> int:  # fmt: skip
    """Judge RUN against a baseline.

    RUN is a run (`latest` by default), a tag, or an exported report; REF what `bench compare` takes, such as a baseline. Exits 0 when
    it may pass, 1 on a regression, 3 when it cannot be said, 4 when there is no baseline or the two must not be compared. Files of
    --output are written in each of these cases.
    """
    asked = {"--suite": suite, "--set": settings, "--a": place_a, "--b": place_b, "--most": most}
    for name, value in {
        "RUN": run,
        "--against": against,
        **asked,
    }.items():  # a variable that is not set must not choose another run
        if value == "":
            raise click.UsageError(f"{name} is empty: give it a value, or leave it out.")
    if not until_decided and (wrong := [name for name, value in asked.items() if value]):
        raise click.UsageError(f"{wrong[0]} goes with --until-decided.")
    if until_decided and (not suite or run):
        raise click.UsageError("--until-decided measures for itself: give --suite SUITE, and no RUN.")
    policy = read_policy(policy_file, outputs)
    again = options_again(policy_file, allow)
    if suite:
        outcome = _measured(suite, settings, against, (place_a, place_b), most, policy, allow, store_url, again)
    else:
        outcome = _stored(run or "latest", against, policy, allow, store_url, again)
    return tell(outcome, "json" if as_json else format_name, outputs, github=github)


def _stored(
    run: str, against: str | None, policy: Policy, allow: tuple[str, ...], store_url: str, again: tuple[str, ...]
) -> Outcome:
    """What is stored already, judged; a baseline that is missing is an outcome too, so that its reports are written."""
    from dataclasses import replace

    from bench.sides import sides
    from results.errors import NotComparableError
    from results.outcome import Outcome, outcome_of

    try:
        reference = against or _default_baseline(store_url)
        found = sides(reference, run, store_url)
    except NotComparableError as error:
        return Outcome(None, None, str(error), ("bench", "gate", portable_reference(run), *again))
    told = (reference_again(run, found[1]), "--against", reference_again(reference, found[0]))
    return replace(
        outcome_of(found, policy, allow),
        command=("bench", "gate", *told, *again),
        accept=_acceptance(reference, told[0], store_url),
        calibration=calibration_of(found, store_url),
    )


def _measured(
    suite: str, settings: tuple[str, ...], against: str | None, places: tuple[str | None, str | None], most: int | None,
    policy: Policy, allow: tuple[str, ...], store_url: str, again: tuple[str, ...],
) -> Outcome:  # fmt: skip
    """What `--until-decided` measures, judged at its last look."""
    from bench.places import Place, parse_place
    from bench.servers import scrubbed_argument
    from bench.until_decided import until_decided
    from results.errors import NotComparableError
    from results.format import plain
    from results.outcome import Outcome

    a, b = (parse_place(place, option) if place else None for place, option in zip(places, ("--a", "--b"), strict=True))
    options = [("--suite", suite), *(("--set", scrubbed_argument(one)) for one in settings), ("--against", against or "")]
    options += [("--a", _named(a) if a else ""), ("--b", _named(b) if b else ""), ("--most", str(most or ""))]
    told = tuple(word for name, value in options if value for word in (name, portable_reference(value)))
    told = ("bench", "gate", "--until-decided", *told, *again)
    try:
        reference = against if a or against else _default_baseline(store_url)
        decided = until_decided(
            suite, settings, b or Place(), policy, store_url, a=a, against=reference, most=most,
            allow=allow, told=_tell_look, heard=lambda line: click.echo(plain(line), err=True),
        )  # fmt: skip
    except NotComparableError as error:
        return Outcome(None, None, str(error), told)
    found = (decided.a, decided.b)
    accept = _acceptance(reference, decided.b.run_ids[-1], store_url) if reference else ()
    return Outcome(found, decided.judgement, "", told, accept, calibration_of(found, store_url))


def _named(place: Place) -> str:
    """A place without what is this machine's own or may be secret: its folders by name, its variables and servers without values."""
    words = [f"python={place.python.name}", *([f"folder={place.folder.name}"] if place.folder else [])]
    return " ".join((*words, *(f"env.{name}=…" for name in place.variables), *(f"server.{name}=…" for name in place.servers)))


def _tell_look(judgement: Judgement) -> None:
    from results.format import plain
    from results.verdict_words import headline, open_cases

    click.echo(plain(f"{headline(judgement)} {open_cases(judgement)}".rstrip()), err=True)


def _default_baseline(store_url: str) -> str:
    """
    Raises:
        NotComparableError: there is none.
    """
    from results.errors import NotComparableError
    from results.store import Store

    with Store.reading(store_url) as store:
        moves = store.baselines(MAIN)
    if not moves or not (moves[-1].run_ids or moves[-1].reference):
        raise NotComparableError(
            f"There is no baseline {MAIN} to judge against: pin one with `bench baseline set {MAIN} RUN`, or name one with --against REF."
        )
    return f"baseline:{MAIN}"


def _acceptance(reference: str, run: str, store_url: str) -> tuple[str, ...]:
    """The command that moves a pinned baseline to a stored run; empty where the reference is no such baseline."""
    from results.errors import StoreError
    from results.store import Store

    name = reference.removeprefix("baseline:")
    if run.endswith(".json") or reference.endswith(".json"):
        return ()
    try:
        with Store.reading(store_url) as store:
            moves = store.baselines(name)
    except StoreError:
        return ()
    pinned = bool(moves) and bool(moves[-1].run_ids) and moves[-1].reference is None
    return ("bench", "baseline", "accept", name, run, "--reason", "TEXT") if pinned else ()
