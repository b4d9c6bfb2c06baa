"""Reports in files, of ours and of other tools, as runs. One file per format; a new one is a file and a row here (`docs/imports.md`).

Where reports come from and where they go is left to `bench import`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from results.errors import UsageError
from results.imports import aiperf, gemmeter, guidellm, llama_bench, vllm_bench
from results.imports.source import Source

if TYPE_CHECKING:
    from results.records import Report


@dataclass(frozen=True)
class Reader:
    """One format."""

    matches: Callable[[Source], bool]
    """Whether a file looks like one, by its first row; cheap, and never raises."""
    read: Callable[[Source], "Report"]
    """Raises `UsageError` where it is none after all."""


def _reader(module: ModuleType) -> Reader:
    return Reader(module.matches, module.read)


READERS = {
    "gemmeter": _reader(gemmeter),
    "llama-bench": _reader(llama_bench),
    "vllm-bench": _reader(vllm_bench),
    "guidellm": _reader(guidellm),
    "aiperf": _reader(aiperf),
}
"""By the name of the format, ours first."""


def read_report(source: Source, format_name: str | None = None) -> "Report":
    """The report that a file is, in the format that it looks like.

    Args:
        format_name: one of `READERS`, where it is known.

    Raises:
        UsageError: no format, or not this one, or its values make no report.
    """
    name = format_name or next((name for name, reader in READERS.items() if reader.matches(source)), None)
    if name is None:
        raise UsageError(f"{source.name} is in no format that can be imported: these can be: {', '.join(READERS)}.")
    if not READERS[name].matches(source):
        raise UsageError(f"{source.name} is no {name} report: leave --format out to have its format recognised.")
    try:
        report = READERS[name].read(source)
        report.to_json().encode()
    except (ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{source.name} holds values that no {name} report has ({reason}): take it as the tool wrote it."
        ) from error
    return report
