"""`bench engines`: what each engine can do, and whether what it needs is installed."""

from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option

if TYPE_CHECKING:
    from bench.engines.protocol import Support


@click.command()
@json_option
def engines(as_json: bool) -> int:
    """List the engines: what each loads, where it runs, what it can do, and what it still needs."""
    import json
    from dataclasses import asdict

    from bench.engines import engine_names, support
    from bench.environment import installed
    from bench.tables import Column, Fitted, console, table
    from results.errors import UsageError

    able: dict[str, Support] = {}
    broken: dict[str, str] = {}
    for name in engine_names():
        try:
            able[name] = support(name)
        except UsageError as error:  # of another package; the others are there all the same
            broken[name] = str(error)
    versions = {name: {package: installed(package) for package in one.packages} for name, one in able.items()}
    if as_json:
        rows = [
            {"name": name, **asdict(one), "switches": sorted(one.switches), "versions": versions[name]}
            for name, one in able.items()
        ]
        click.echo(json.dumps([*rows, *({"name": name, "error": why} for name, why in broken.items())], indent=2))
        return 0
    loads = {"folder": "safetensors", "gguf": "GGUF", "served": "what its server has"}
    found, unknown = list(able.values()), [""] * len(broken)
    first = [
        Column("Engine", [*able, *broken]),
        Column("Loads", [*(loads[one.weights] for one in found), *unknown], wraps=11),
    ]
    where = Column("Devices", [*(", ".join(one.devices) for one in found), *unknown], wraps=8)
    more = [
        Column("Quantizations", [*(", ".join(one.quantizations) for one in found), *unknown], wraps=13),
        Column("Modalities", [*(", ".join(one.modalities) for one in found), *unknown]),
        Column("Log-probabilities", [*(_yes(one.log_probabilities) for one in found), *unknown]),
        Column("Counts from", [*(one.token_counts for one in found), *unknown]),
        Column("Switches", [*(", ".join(sorted(one.switches)) for one in found), *unknown], wraps=16),
    ]
    last = [
        Column("Load", [*(_yes(one.concurrent) for one in found), *unknown]),
        Column("Needs", [*(_needs(versions[name], one) for name, one in able.items()), *broken.values()], wraps=18),
    ]
    console().print(Fitted((table([*first, where, *more, *last]), table([*first, where, *last]))))
    return 0


def _yes(able: bool) -> str:
    return "yes" if able else "no"


def _needs(versions: "dict[str, str | None]", able: "Support") -> str:
    """The versions of what an engine needs, or how to come by what is missing."""
    from shutil import which

    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return f'pip install "gemmeter[{able.extra}]"' if able.extra else f"pip install {' '.join(missing)}"
    if able.program:
        return f"{able.program} on the PATH, which {'is there' if which(able.program) else 'is missing'}"
    return ", ".join(f"{package} {version}" for package, version in versions.items()) or "nothing"
