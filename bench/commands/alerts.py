"""`bench alerts`: judge the newest stored requests by rules, and print the rules' JSON Schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from rich.table import Table

    from results.alerts import Target
    from results.records import Alert
    from results.rules import Rule


@click.group()
def alerts() -> None:
    """Judge what was measured by alert rules."""


@alerts.command("eval")
@click.argument("rules_file", metavar="[RULES.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--run", "run_reference", metavar="RUN", help="Only the requests of this run; otherwise the newest of all runs.")
@store_option
@json_option
def evaluate_rules(rules_file: Path | None, run_reference: str | None, store_url: str, as_json: bool) -> None:
    """Evaluate RULES.yaml, or the five built-in rules, over the newest requests of every speed case.

    Exits with 1 when an alert is firing, else with 3 when one has no data, else with 0.
    """
    import json
    from datetime import UTC, datetime

    from results.alerts import evaluate, report_targets, stored_targets
    from results.rules import load_rules
    from results.store import Store

    rules = load_rules(rules_file)
    with Store.reading(store_url) as store:
        if run_reference:
            targets = report_targets(store.report(store.resolve_run(run_reference)))
        else:
            targets = stored_targets(store, max(rule.last for rule in rules))
    found = evaluate(rules, targets, datetime.now(UTC))
    order = ("firing", "no_data", "ok")
    found.sort(key=lambda alert: order.index(alert.state))
    if as_json:
        click.echo(json.dumps([json.loads(alert.to_json()) for alert in found], ensure_ascii=False))
    else:
        _print(found, rules, targets)
    states = {alert.state for alert in found}
    click.get_current_context().exit(1 if "firing" in states else 3 if "no_data" in states or not found else 0)


@alerts.command()
def schema() -> None:
    """Print the JSON Schema of a rule file, for editors."""
    from results.rules import json_schema

    click.echo(json_schema(), nl=False)


def _print(found: "Sequence[Alert]", rules: "Sequence[Rule]", targets: "Sequence[Target]") -> None:
    """A table per case, the worst case first; `found` comes worst first."""
    from bench.tables import console
    from results.format import plain

    by_label = {target.label: target for target in targets}
    for position, label in enumerate(dict.fromkeys(alert.target for alert in found)):
        mine = [alert for alert in found if alert.target == label]
        click.echo(("\n" if position else "") + plain(label))
        console().print(_table(mine, {rule.name: rule for rule in rules}, by_label[label]))
    if not found:
        click.echo("No data: no speed case was ever planned.")


def _table(found: "Sequence[Alert]", rules: "dict[str, Rule]", target: "Target") -> "Table":
    from rich.text import Text

    from bench.tables import Column, table
    from results.alerts import samples
    from results.format import quantity
    from results.rules import RULE_METRICS

    ruled = [(alert, rules[alert.rule], RULE_METRICS[rules[alert.rule].metric].unit) for alert in found]
    styles = {"firing": "bold red", "no_data": "yellow", "ok": "green"}
    limits = [f"{'<' if rule.above is None else '>'} {quantity(rule.threshold, unit)}" for _, rule, unit in ruled]
    return table(
        [
            Column("State", [Text(alert.state.replace("_", " "), style=styles[alert.state]) for alert in found]),
            Column("Severity", [alert.severity for alert in found]),
            Column("Rule", [alert.rule for alert in found]),
            Column("Value", [quantity(alert.value, unit) for alert, _, unit in ruled], justify="right"),
            Column("Fires when", limits, justify="right"),
            Column("n", [str(len(samples(rule, target))) for _, rule, _ in ruled], justify="right"),
        ]
    )
