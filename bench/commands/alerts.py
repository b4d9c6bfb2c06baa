"""`bench alerts`: judge the newest stored requests by rules, and print the rules' JSON Schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
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
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from results.alerts import samples
    from results.format import plain, quantity
    from results.rules import RULE_METRICS

    if not found:
        click.echo("No data: no speed case was ever planned.")
        return
    by_name, by_label = {rule.name: rule for rule in rules}, {target.label: target for target in targets}
    styles = {"firing": "bold red", "no_data": "yellow", "ok": "green"}
    table = Table("State", "Severity", "Rule", "Case", box=box.SIMPLE_HEAD)
    for heading in ("Value", "Threshold", "n"):
        table.add_column(heading, justify="right")
    for alert in found:
        rule, target = by_name[alert.rule], by_label[alert.target]
        unit = RULE_METRICS[rule.metric].unit
        sign = ">" if rule.above is not None else "<"
        table.add_row(
            Text(alert.state.replace("_", " "), style=styles[alert.state]),
            alert.severity,
            alert.rule,
            Text(plain(alert.target)),
            quantity(alert.value, unit),
            f"{sign} {quantity(alert.threshold, unit)}",
            str(len(samples(rule, target))),
        )
    Console().print(table)
