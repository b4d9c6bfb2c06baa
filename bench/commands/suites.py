"""`bench list` and `bench schema`: the built-in suites, and the form of a suite file."""

import click

from bench.commands.options import json_option


@click.command("list")
@json_option
def list_suites(as_json: bool) -> int:
    """List the built-in suites and what each answers."""
    import json

    from bench.suite import find_suite, load_suite, suite_names
    from bench.tables import Column, console, table

    suites = [load_suite(find_suite(name)) for name in suite_names()]
    if as_json:
        click.echo(json.dumps([suite.source() for suite in suites], indent=2))
        return 0
    columns = [
        Column("Suite", [suite.name for suite in suites]),
        Column("Answers", [suite.question for suite in suites], wraps=30),
    ]
    console().print(table(columns))
    return 0


@click.command()
def schema() -> int:
    """Print the JSON Schema of a suite file, for editors."""
    from bench.suite import schema_json

    click.echo(schema_json())
    return 0
