"""`bench export`: one run for people and other machines."""

from pathlib import Path

import click

from bench.commands.options import store_option


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["json", "csv", "md", "tutorial-json", "html"]),
    help="By default what FILE's suffix says, or json.",
)
@click.option("--output", "-o", default="-", metavar="FILE", help="Where to write; - is standard output.  [default: -]")
@store_option
def export(run: str, format_name: str | None, output: str, store_url: str) -> None:
    """Write RUN (an id, its beginning, a tag, or `latest`) as JSON, CSV, Markdown, HTML or the tutorial's JSON.

    FILE is written whole or not at all.
    """
    from results.export import FORMATS, format_of, write_whole
    from results.store import Store

    chosen = format_name or ("json" if output == "-" else format_of(Path(output)))
    with Store.reading(store_url) as store:
        text = FORMATS[chosen](store.report(store.resolve_run(run)))
    if output == "-":
        click.echo(text.encode(), nl=False)  # bytes: UTF-8 and line ends stay as they are
    else:
        write_whole(Path(output), text)
