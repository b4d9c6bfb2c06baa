"""`bench list` and `bench schema`: the built-in suites, and the form of suite and policy files."""

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
@click.option("--policy", "of_policy", is_flag=True, help="Of a gate's policy file instead.")
def schema(of_policy: bool) -> int:
    """Print the JSON Schema of a suite file, for editors."""
    if of_policy:
        from results.policy import json_schema

        click.echo(json_schema(), nl=False)
    else:
        from bench.suite import schema_json

        click.echo(schema_json())
    return 0
