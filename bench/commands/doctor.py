"""`bench doctor`: what this machine has, and what to install for the rest."""

import click

from bench.commands.options import json_option, store_option

SIGNS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}


@click.command()
@store_option
@json_option
def doctor(store_url: str, as_json: bool) -> int:
    """Say what this machine has for benchmarking, and what to install for the rest."""
    import json
    from dataclasses import asdict

    from rich.text import Text

    from bench.doctor import examine
    from bench.tables import console

    findings = examine(store_url)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 0
    screen = console()
    for finding in findings:
        sign, style = SIGNS[finding.state]
        line = Text.assemble((sign, style), f" {finding.topic:<10} {finding.text}")
        screen.print(line, soft_wrap=True)
        if finding.remedy:
            screen.print(Text(f"  {'':<10} → {finding.remedy}", style="dim"), soft_wrap=True)
    return 0
