"""`bench compare`: two sides beside one another, with a verdict for each row. The judging is `results.gate`'s."""

from __future__ import annotations

from pathlib import Path

import click

from bench.commands.verdict_output import calibration_of, options_again, read_policy, reference_again, tell, verdict_options


@click.command()
@click.argument("a")
@click.argument("b")
@verdict_options
def compare(
    a: str, b: str, policy_file: Path | None, allow: tuple[str, ...], format_name: str, outputs: tuple[Path, ...], store_url: str,
    as_json: bool,
) -> int:  # fmt: skip
    """Compare B with A.

    A and B are runs (an id, its beginning, or `latest`), tags, branches, baselines, windows such as `rolling:5`, or exported reports
    (files that end in .json). Exits 0 when nothing got worse, 1 on a regression, 3 when it cannot be said, 4 when the two must not be
    compared.
    """
    from dataclasses import replace

    from bench.sides import sides
    from results.outcome import outcome_of

    policy = read_policy(policy_file, outputs)
    found = sides(a, b, store_url)
    again = (reference_again(a, found[0]), reference_again(b, found[1]))
    outcome = replace(
        outcome_of(found, policy, allow),
        command=("bench", "compare", *again, *options_again(policy_file, allow)),
        calibration=calibration_of(found, store_url),
    )
    return tell(outcome, "json" if as_json else format_name, outputs)
