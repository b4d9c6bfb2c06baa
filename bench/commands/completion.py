"""`bench completion`: the script that lets a shell complete commands, options and suite names."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the completion script for SHELL; for bash: eval "$(bench completion bash)"."""
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is not None:
        click.echo(complete(context.find_root().command, {}, "bench", "_BENCH_COMPLETE").source())
    return 0
