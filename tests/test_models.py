"""`bench models`: what the catalog holds, what of it fits, and where a wrong name leads."""

import io
import json
from types import SimpleNamespace

import pytest
from nvml_standin import NvmlStandin
from rich.console import Console, RenderableType
from terminal import run_bench

from bench.catalog import catalog
from bench.commands.models import LEVELS, details, facts, fits, free_memory, overview
from monitor.nvml import Driver
from results.cases import MemoryEstimate

GIB = 2**30


def fake_fits(parameters: int, free: int) -> dict[str, MemoryEstimate]:
    """Weights alone, at the bits of each level."""
    bits = {"fp32": 32, "bf16": 16, "int8": 8, "nf4": 4}
    return {
        level: MemoryEstimate(
            weights_bytes=parameters * bits[level] // 8, kv_cache_bytes=2**20, activation_bytes=0, runtime_bytes=0, available_bytes=free
        )
        for level in LEVELS
    }  # fmt: skip


def shown(what: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, emoji=False, highlight=False).print(what)
    return out.getvalue()


def rows(width: int, *names: str) -> dict[str, str]:
    """Each model's line, by its name."""
    found = [(catalog()[name], fake_fits(catalog()[name].parameters, 9 * GIB)) for name in names]
    lines = shown(overview(found), width).splitlines()
    return {line.split()[0]: " ".join(line.split()) for line in lines if line.split()[0] in (*names, "Model")}


NAMES = ("gemma-3-270m", "gemma-3-4b-it", "gemma-4-26b-a4b-it")


def test_a_wide_terminal_shows_everything() -> None:
    found = rows(160, *NAMES)
    assert found["Model"] == "Model Parameters Effective Context Modalities Licence fp32 bf16 int8 nf4"
    assert found["gemma-3-4b-it"] == "gemma-3-4b-it 4.3B 3.88B 128K text, image gemma ✗ 16 GiB ✓ 8.01 GiB ✓ 4.01 GiB ✓ 2 GiB"
    assert found["gemma-3-270m"].startswith("gemma-3-270m 268M 268M 32K text gemma ✓ 1024 MiB ✓ 512 MiB ✓ 257 MiB ✓ 129 MiB")
    assert found["gemma-4-26b-a4b-it"].startswith("gemma-4-26b-a4b-it 25.8B 3.82B 256K text, image, video apache-2.0 ✗ 96.1 GiB")


def test_narrow_terminals_show_what_decides() -> None:
    assert rows(100, *NAMES)["Model"] == "Model Parameters Effective Context fp32 bf16 int8 nf4"
    assert rows(80, *NAMES)["Model"] == "Model Parameters fp32 bf16 int8 nf4"
    assert rows(66, *NAMES) == {
        "Model": "Model Parameters Context Fits",
        "gemma-3-270m": "gemma-3-270m 268M 32K fp32, bf16, int8, nf4",
        "gemma-3-4b-it": "gemma-3-4b-it 4.3B 128K bf16, int8, nf4",
        "gemma-4-26b-a4b-it": "gemma-4-26b-a4b-it 25.8B 256K nothing",
    }
    assert rows(45, *NAMES)["gemma-4-26b-a4b-it"] == "gemma-4-26b-a4b-it nothing"
    assert all(
        len(line) <= 36 for line in shown(overview([(one, fake_fits(1, GIB)) for one in catalog().values()]), 36).splitlines()
    )


def test_one_model_with_its_dimensions_and_terms() -> None:
    entry = catalog()["gemma-4-26b-a4b-it"]
    text = " ".join(shown(details(entry, fake_fits(entry.parameters, 30 * GIB)), 100).split())
    for part in (
        "https://huggingface.co/google/gemma-4-26B-A4B-it",
        "25,805,933,872",
        "3,822,530,560 compute a token of text",
        "262144 tokens",
        "apache-2.0: Licensed under the Apache License, Version 2.0, found at www.apache.org/licenses/LICENSE-2.0",
        "num_experts 128, top_k_experts 8",
        "layer_types 25 × sliding_attention + 5 × full_attention",
        "Images model_type gemma4_vision, hidden_size 1152",
        "Level Weights KV cache Activations Runtime Memory",
        "int8 24 GiB 1 MiB 0 B 0 B ✓ 24 GiB",
    ):
        assert part in text
    assert "Gemma Terms of Use" in " ".join(shown(details(catalog()["gemma-3-270m"], {}), 80).split())
    narrow = shown(details(entry, fake_fits(entry.parameters, 30 * GIB)), 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "KV cache" not in narrow


def test_facts_for_machines() -> None:
    entry = catalog()["gemma-3-270m"]
    found = json.loads(json.dumps(facts(entry, fake_fits(entry.parameters, GIB))))
    assert found["architecture"]["hidden_size"] == 640
    assert found["package"]["source_precision"] == "q4_k_m"
    assert found["modalities"] == ["text"]
    assert found["memory"]["bf16"]["total_bytes"] == 2 * entry.parameters + 2**20
    assert [level for level, one in found["memory"].items() if one["fits"]] == ["fp32", "bf16", "int8", "nf4"]


def test_every_model_of_the_catalog_is_estimated_at_every_level() -> None:
    for entry in catalog().values():
        found = fits(entry, "cpu", 24 * GIB)
        totals = [found[level].total_bytes for level in LEVELS]
        assert totals == sorted(totals, reverse=True)
        assert found["bf16"].weights_bytes == pytest.approx(2 * entry.parameters, rel=0.01)
        assert all(one.available_bytes == 24 * GIB and one.kv_cache_bytes > 0 for one in found.values())


def test_the_command_lists_all_and_says_what_else_works() -> None:
    done = run_bench("models", columns=160)
    assert done.code == 0
    assert all(name in done.output for name in catalog())
    assert "Any other causal language model works too: by its hub id" in done.output
    assert [one["name"] for one in json.loads(run_bench("models", "--json").output)] == list(catalog())


def test_a_model_by_its_hub_id() -> None:
    assert json.loads(run_bench("models", "google/gemma-3n-E2B-it", "--json").output)["name"] == "gemma-3n-e2b-it"
    assert "https://huggingface.co/google/gemma-3n-E2B-it" in "".join(
        run_bench("models", "gemma-3n-e2b-it", columns=50).output.split()
    )


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("gemma-3-8b-it", "gemma-3-4b-it, gemma-3-12b-it, "),
        ("Gemma 2.5 0.5B–72B", "gemma-3-270m, gemma-3-270m-it, gemma-3-1b-pt, "),
        ("Gemma 2.5 72B", "gemma-4-31b, gemma-4-31b-it, gemma-2-27b, "),
        ("Gemma-VL", "gemma-4-e2b-it, gemma-3n-e2b-it, gemma-3-4b-it, "),
    ],
)
def test_models_that_do_not_exist_lead_to_the_nearest(asked: str, named: str) -> None:
    done = run_bench("models", asked)
    assert done.code == 2
    assert done.error.startswith(f"{asked!r} is not in the catalog (the nearest there are {named}")


def test_free_memory_is_that_of_the_emptiest_gpu_where_there_is_one() -> None:
    here = ("cpu", "this machine's memory", 5)
    assert free_memory(None, 5) == here
    assert free_memory(Driver(NvmlStandin()), 5) == here
    silent, full = {"Name": "Grace"}, {"Name": "H100", "MemoryInfo": SimpleNamespace(total=80, free=7)}
    assert free_memory(Driver(NvmlStandin(silent)), 5) == here
    gpus = Driver(NvmlStandin(silent, full, full | {"MemoryInfo": SimpleNamespace(total=80, free=70)}))
    assert free_memory(gpus, 5) == ("cuda", "GPU 2, H100", 70)
