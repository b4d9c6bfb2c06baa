"""llama-bench (`-o json`, `-o jsonl`): each test is a case, and its repetitions, all in one process, are its repetitions here.

Read from `tools/llama-bench/llama-bench.cpp` of llama.cpp b11434. A test whose shape and settings stand twice in a file is one case.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, FiniteFloat

from results.errors import UsageError
from results.imports.peer import UNKNOWN, Measured, Repetition, imported_case, peer_report
from results.imports.source import Count, Foreign, Source
from results.record import Scalar
from results.records import Report

TOOL = "llama-bench"
DEFAULTS: dict[str, Any] = {
    "n_batch": 2048, "n_ubatch": 512, "type_v": "f16", "n_gpu_layers": -1, "n_cpu_moe": 0, "split_mode": "layer", "main_gpu": 0,
    "no_kv_offload": False, "devices": "auto", "tensor_split": "0.00", "tensor_buft_overrides": "none", "embeddings": False,
    "no_op_offload": 0,
}  # fmt: skip
"""Settings that make two cases different wherever they are set; one at its default makes none."""
_OLD_DEFAULTS = {"n_gpu_layers": 99}
_RESULTS = re.compile(
    r"(avg|stddev|samples)_|test_time$|build_|model_|[cg]pu_info$|backends$|n_(prompt|gen|depth|threads)$|type_k$"
)
_DEVICES = {"CPU": "cpu", "BLAS": "cpu", "CUDA": "cuda", "ROCm": "rocm", "Metal": "mps", "MTL": "mps", "Vulkan": "vulkan"}
_LEVEL = re.compile(r"\b(F32|B?F16|I?Q\d\w*|T?Q\d_\d|MXFP4\w*)(?: - ([SML])\w*)?")
_FLOATS = {"f32": "fp32", "f16": "fp16"}
_ATTENTION = {"1": "on", "true": "on", "on": "on", "0": "off", "false": "off", "off": "off"}


class Test(Foreign):
    build_commit: str = UNKNOWN
    build_number: int | None = None
    cpu_info: str = ""
    gpu_info: str = ""
    backends: str = "CPU"
    model_filename: str
    model_type: str = ""
    n_threads: Count | None = None
    type_k: str = "f16"
    flash_attn: bool | int | str = -1
    n_prompt: Count
    n_gen: Count
    n_depth: Count = 0
    test_time: AwareDatetime
    samples_ns: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0)], ...], Field(min_length=1)]

    @property
    def metric(self) -> str:
        """`pp`, `tg`, or `pg` for both one after the other: three metrics."""
        return f"llamabench_{'pg' if self.n_prompt and self.n_gen else 'pp' if self.n_prompt else 'tg'}_tps"


def matches(source: Source) -> bool:
    return {"n_prompt", "n_gen", "samples_ns", "model_filename"} <= source.first.keys()


def read(source: Source) -> Report:
    tests = [source.checked(row, Test, f"test {number}") for number, row in enumerate(source.rows, start=1)]
    if any(not test.n_prompt + test.n_gen for test in tests):
        raise UsageError(f"{source.name}: a test without prompt and generated tokens measures nothing: leave it out.")
    facts = _facts(tests[0])
    if any(_facts(test) != facts for test in tests):
        raise UsageError(
            f"{source.name} holds tests of several machines or builds: import each one's tests from a file of its own."
        )
    varying = _varying(source.rows)
    cases: dict[str, Measured] = {}
    for test, row in zip(tests, source.rows, strict=True):
        one = _measured(test, _settings(row, varying), varying)
        known = cases.get(one.case.case_id)
        cases[one.case.case_id] = _joined(known, one) if known else one
    return peer_report(source, TOOL, tuple(cases.values()), facts)


def _facts(test: Test) -> dict[str, Scalar]:
    return {
        "llama.cpp": f"{test.build_number} ({test.build_commit})",
        "cpu_model": test.cpu_info or None,
        "gpus": test.gpu_info or None,
    }


def _measured(test: Test, settings: dict[str, Any], varying: Sequence[str]) -> Measured:
    name = re.split(r"[\\/]", test.model_filename)[-1].removesuffix(".gguf")
    device = _DEVICES.get(test.backends.split(",")[0], test.backends.lower())
    kv = test.type_k if test.type_k == settings.get("type_v", "f16") else f"{test.type_k}/{settings.get('type_v', 'f16')}"
    case = imported_case(
        TOOL, name, settings, engine="llama.cpp", device=device, dtype=UNKNOWN, quantization=_level(test.model_type),
        threads=test.n_threads if device == "cpu" else None, prompt_tokens=test.n_prompt or None, output_tokens=test.n_gen,
        depth=test.n_depth, kv_dtype=None if kv == "f16" else kv, attention=_ATTENTION.get(str(test.flash_attn).lower()),
    )  # fmt: skip
    shown = " ".join(f"{key} {settings.get(key, DEFAULTS.get(key))}" for key in varying)
    return Measured(
        case=case, model=f"{name} ({shown})" if shown else name, started_at=test.test_time, repetitions=_repetitions(test, 0.0),
        facts={"model_type": test.model_type},
    )  # fmt: skip


def _repetitions(test: Test, start_s: float) -> tuple[Repetition, ...]:
    found = []
    for nanoseconds in test.samples_ns:
        seconds = nanoseconds / 1e9
        values = {test.metric: (test.n_prompt + test.n_gen) / seconds}
        found.append(Repetition(values, start_s, prompt_tokens=test.n_prompt, output_tokens=test.n_gen))
        start_s += seconds
    return tuple(found)


def _joined(first: Measured, second: Measured) -> Measured:
    gap = (second.started_at - first.started_at).total_seconds()
    later = tuple(
        Repetition(one.values, one.sent_s + gap, None, one.prompt_tokens, one.output_tokens) for one in second.repetitions
    )
    return Measured(first.case, first.model, first.started_at, first.repetitions + later, facts=first.facts)


def _settings(row: dict[str, Any], varying: Sequence[str]) -> dict[str, Any]:
    """Those that are not at their default, and all that differ between the tests of the file."""
    found = {key: row[key] for key in DEFAULTS if key in row and _setting(row[key]) != _setting(DEFAULTS[key])}
    if found.get("n_gpu_layers") == _OLD_DEFAULTS["n_gpu_layers"]:
        found.pop("n_gpu_layers")
    return found | {key: row.get(key) for key in varying}


def _varying(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Settings that are not the same in all tests, and that no axis of a case holds."""
    keys = dict.fromkeys(key for row in rows for key in row if not _RESULTS.match(key) and key != "flash_attn")
    return tuple(key for key in keys if len({_setting(row.get(key)) for row in rows}) > 1)


def _setting(value: Any) -> str:
    """Builds write one setting as 0, false or "0"."""
    return str(int(value) if isinstance(value, bool) else value).lower()


def _level(model_type: str) -> str:
    """`gemma3 270M Q4_K - Medium` → `q4_k_m`."""
    found = [*_LEVEL.finditer(model_type)]
    if not found:
        return UNKNOWN
    level, size = found[-1].groups(default="")
    name = f"{level}_{size}".strip("_").lower()
    return _FLOATS.get(name, name)
