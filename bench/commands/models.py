"""`bench models`: the catalog, and which of its models fit the memory of this machine at which level of quantization."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from bench.catalog import CatalogEntry
    from monitor.nvml import Driver
    from results.cases import MemoryEstimate

    Fits = Mapping[str, MemoryEstimate]

LEVELS = ("fp32", "bf16", "int8", "nf4")
CONTEXT_TOKENS = 4096
OTHERS = "Any other causal language model works too: by its hub id, such as organisation/name, or by the path of its folder or .gguf file."


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> int:
    """List the models of the catalog and what of them fits this machine, or show one with all its facts."""
    import json

    from bench.catalog import by_hub_id, catalog, unknown_model
    from bench.tables import console
    from monitor import devices, nvml

    entries = list(catalog().values())
    if name is not None:
        one = catalog().get(name) or by_hub_id(name)
        if one is None:
            raise unknown_model(name)
        entries = [one]
    device, where, free = free_memory(nvml.driver(), devices.free_memory_bytes())
    found = [(entry, fits(entry, device, free)) for entry in entries]
    if as_json:
        rows = [facts(entry, fit) for entry, fit in found]
        click.echo(json.dumps(rows if name is None else rows[0], indent=2))
        return 0
    screen = console()
    screen.print(overview(found) if name is None else details(*found[0]))
    screen.print()
    screen.print(f"Memory for {CONTEXT_TOKENS} tokens of context, estimated, against {_gib(free)} free of {where}.")
    if name is None:
        screen.print(OTHERS)
    return 0


def free_memory(driver: "Driver | None", machine: int) -> tuple[str, str, int]:
    """(device, what has the memory, its free bytes): the GPU with most of it where the driver knows one, else the machine."""
    if driver is not None:
        free = [(int(asked.free), gpu) for gpu in driver.gpus() if (asked := driver.ask("MemoryInfo", gpu.index)) is not None]
        if free:
            most, gpu = max(free, key=lambda one: one[0])
            return "cuda", f"GPU {gpu.index}, {gpu.name}", most
    return "cpu", "this machine's memory", machine


def fits(entry: "CatalogEntry", device: str, free: int) -> "Fits":
    """What a model will take at each level, one sequence at a time; empty if its dimensions are not understood."""
    from bench.architecture import Architecture
    from bench.estimate import estimate
    from bench.quantizations import dtype_of
    from results.cases import Case

    architecture = Architecture.from_config(entry.architecture) if entry.architecture else None
    if architecture is None:
        return {}
    cases = {
        level: Case(
            weights=entry.hub_id, engine="transformers", device=device, dtype=dtype_of(level), quantization=level, workload="",
            depth=CONTEXT_TOKENS - 64, prompt_tokens=32, output_tokens=32,
        )
        for level in LEVELS
    }  # fmt: skip
    return {level: estimate(case, architecture, free) for level, case in cases.items()}


def facts(entry: "CatalogEntry", fit: "Fits") -> dict[str, Any]:
    """A catalog entry for machines, with the memory in bytes by level."""
    from dataclasses import asdict

    memory = {
        level: {**one.model_dump(mode="json", exclude={"schema_version"}), "total_bytes": one.total_bytes, "fits": one.fits}
        for level, one in fit.items()
    }
    return {**asdict(entry), "memory": memory}


def overview(found: "Iterable[tuple[CatalogEntry, Fits]]") -> "RenderableType":
    """A row per model; where the terminal is narrow, only what decides: its size and the levels that fit."""
    from bench.tables import Column, Fitted, table

    rows = list(found)
    names = Column("Model", [entry.name for entry, _ in rows])
    sizes = [
        Column("Parameters", [_parameters(entry.parameters) for entry, _ in rows], justify="right"),
        Column("Effective", [_parameters(entry.effective_parameters) for entry, _ in rows], justify="right"),
    ]
    context = Column("Context", [_tokens(entry.context) for entry, _ in rows], justify="right")
    more = [
        Column("Modalities", [", ".join(entry.modalities) for entry, _ in rows]),
        Column("Licence", [entry.licence for entry, _ in rows]),
    ]
    memory = [Column(level, [_memory(fit.get(level)) for _, fit in rows], justify="right") for level in LEVELS]
    fitting = [_fitting(fit) for _, fit in rows]
    return Fitted(
        (
            table([names, *sizes, context, *more, *memory]),
            table([names, *sizes, context, *memory]),
            table([names, sizes[0], *memory]),
            table([names, sizes[0], context, Column("Fits", fitting)]),
            table([names, Column("Fits", fitting, wraps=9)]),
        )
    )


def details(entry: "CatalogEntry", fit: "Fits") -> "RenderableType":
    """One model: its facts, the dimensions of its parts, and its memory by level."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from bench.tables import Column, Fitted, table

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    package = f"from the package {entry.package.module}, stored as {entry.package.source_precision}" if entry.package else ""
    for label, text in {
        "Hub": f"https://huggingface.co/{entry.hub_id}",
        "Weights": package or "from the hub",
        "Tuned": "no: it continues text" if entry.base else "to follow instructions",
        "Parameters": f"{entry.parameters:,}",
        "Effective": f"{entry.effective_parameters:,} compute a token of text",
        "Context": f"{entry.context} tokens",
        "Modalities": ", ".join(entry.modalities),
        "Licence": f"{entry.licence}: {entry.terms}",
        **_dimensions(entry.architecture or {}),
    }.items():
        grid.add_row(Text(label), Text(text))
    parts = {
        "Weights": [_gib(one.weights_bytes) for one in fit.values()],
        "KV cache": [_gib(one.kv_cache_bytes) for one in fit.values()],
        "Activations": [_gib(one.activation_bytes) for one in fit.values()],
        "Runtime": [_gib(one.runtime_bytes) for one in fit.values()],
    }
    level, total = Column("Level", list(fit)), Column("Memory", [_memory(one) for one in fit.values()], justify="right")
    wide = table([level, *(Column(label, cells, justify="right") for label, cells in parts.items()), total])
    return Group(Text(entry.name, style="bold"), grid, Text(), Fitted((wide, table([level, total]))))


def _dimensions(config: Mapping[str, Any]) -> dict[str, str]:
    """A line per part of an architecture, in the words of its configuration; the layers' kinds are counted."""
    titles = {"text_config": "Text", "vision_config": "Images", "audio_config": "Audio"}
    parts = {titles[name]: config[name] for name in titles if name in config} or {"Text": config}
    return {title: ", ".join(f"{name} {_value(value)}" for name, value in part.items()) for title, part in parts.items()}


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name} {_value(inner)}' for name, inner in value.items())})"
    if isinstance(value, list):
        return " + ".join(f"{value.count(one)} × {one}" for one in dict.fromkeys(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parameters(count: int) -> str:
    from results.format import number

    return f"{number(count / 1e9)}B" if count >= 0.9995e9 else f"{number(count / 1e6)}M"


def _tokens(count: int) -> str:
    return f"{count // 1024}K"


def _gib(size: int) -> str:
    from results.format import quantity

    return quantity(size, "B")


def _fitting(fit: "Fits") -> str:
    return (", ".join(level for level, one in fit.items() if one.fits) or "nothing") if fit else "–"


def _memory(one: "MemoryEstimate | None") -> "Text":
    """What a level takes, marked by whether it fits."""
    from rich.text import Text

    if one is None:
        return Text("–")
    return Text(f"{'✓' if one.fits else '✗'} {_gib(one.total_bytes)}", style="green" if one.fits else "red")
