"""`bench run --dry-run`: every case with its estimate, in whatever width there is, and the options that estimates bring."""

import json
from pathlib import Path

import pytest
from fakes import make_case, make_planned
from rich.console import Console
from terminal import run_bench

from bench.commands.plan_view import plan_facts, plan_view
from bench.commands.run import Asked
from bench.project import Project
from bench.suite import Suite
from results.cases import MemoryEstimate

SUITE = Suite(name="fit", question="What fits?")
TWO = """
name: two
question: What fits?
defaults: {weights: random, dtype: bf16, prompt_tokens: 32}
matrix: {model: [gemma-3-27b-pt, gemma-3-270m-it]}
"""


def memory(weights: int) -> MemoryEstimate:
    return MemoryEstimate(
        weights_bytes=weights * 2**30,
        kv_cache_bytes=2**20,
        activation_bytes=2**21,
        runtime_bytes=2**29,
        available_bytes=20 * 2**30,
    )


LARGE = make_planned(make_case(weights="hub:large@c"), model="large", estimate=memory(108))
SMALL = make_planned(make_case(weights="hub:small@c"), model="small", estimate=memory(1))
UNKNOWN = make_planned(make_case(weights="hub:unknown@c"), model="unknown")


def shown(width: int, *planned: object, suite: Suite = SUITE, seed: int | None = None) -> str:
    console = Console(width=width, markup=False, record=True)
    with console.capture() as capture:
        console.print(plan_view(suite, planned, seed))  # type: ignore[arg-type]
    return capture.get()


@pytest.mark.parametrize(
    ("width", "there", "missing"),
    [
        (250, ["Processes", "Weights", "Activations", "Total", "Fits", "Id", "c1-"], []),
        (120, ["Weights", "KV cache", "Activations", "Runtime", "Total", "Free", "Fits"], ["Processes", "Id"]),
        (70, ["Total", "Free", "Fits"], ["Weights", "Runtime"]),
        (40, ["Weights", "108 GiB", "Fits"], ["Processes"]),
    ],
)
def test_layouts_fit_the_terminal(width: int, there: list[str], missing: list[str]) -> None:
    text = shown(width, LARGE, SMALL, UNKNOWN)
    assert all(word in text for word in there)
    assert not any(word in text for word in missing)
    assert "109 GiB" in text
    assert max(map(len, text.splitlines())) <= width


def test_what_does_not_fit_comes_last_and_is_counted() -> None:
    text = shown(120, LARGE, SMALL, UNKNOWN)
    assert text.index("small") < text.index("large")
    assert "1 case does not fit and will be tried all the same: --skip-unfit" in text
    skipping = SUITE.model_copy(update={"skip_unfit": True})
    assert "1 case does not fit and will be left out." in shown(120, LARGE, SMALL, suite=skipping)
    assert "fit" not in shown(120, SMALL).split("measurements.")[1]


def test_the_order_is_that_of_the_seed() -> None:
    many = [make_planned(make_case(weights=f"hub:m{number}@c"), model=f"m{number}") for number in range(6)]
    assert "with --seed 3" in shown(120, *many, seed=3)
    assert "each run draws its own" in shown(120, *many)
    orders = {tuple(one["order"] for one in plan_facts(SUITE, many, seed)["cases"]) for seed in range(5)}
    assert len(orders) > 1


def test_facts_for_machines() -> None:
    facts = plan_facts(SUITE, [LARGE, SMALL, UNKNOWN], 1)
    large, small, unknown = facts["cases"]
    assert (large["estimate"]["fits"], small["estimate"]["fits"], unknown["estimate"]) == (False, True, None)
    assert large["estimate"]["total_bytes"] == LARGE.estimate.total_bytes if LARGE.estimate else 0
    assert large["order"] == 2
    assert {small["order"], unknown["order"]} == {0, 1}


def test_a_dry_run_tells_estimates_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    (tmp_path / "two.yaml").write_text(TWO)
    asked = ("--memory-limit", "8GiB", "--price-per-hour", "1.2", "--skip-unfit", "--json")
    told = run_bench("run", str(tmp_path / "two.yaml"), "--dry-run", *asked)
    facts = json.loads(told.output)
    assert facts["skip_unfit"] is True
    for one in facts["cases"]:
        assert one["memory_limit_bytes"] == 8 * 2**30
        assert one["price_per_hour"] == 1.2
        assert one["estimate"]["total_bytes"] == sum(one["estimate"][f"{part}_bytes"] for part in PARTS)
    assert facts["cases"][0]["estimate"]["weights_bytes"] == 2 * 27_432_406_640


PARTS = ("weights", "kv_cache", "activation", "runtime")


def test_wrong_sizes_are_refused_with_their_field(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(TWO)
    assert run_bench("run", str(tmp_path / "two.yaml"), "--dry-run", "--memory-limit", "much").code == 2
    assert run_bench("run", str(tmp_path / "two.yaml"), "--dry-run", "--price-per-hour", "-1").code == 2


@pytest.mark.parametrize("option", [("--skip-unfit",), ("--memory-limit", "8GiB"), ("--price-per-hour", "2")])
def test_a_resumed_run_takes_none_of_it(option: tuple[str, ...]) -> None:
    told = run_bench("run", "--resume", "latest", *option)
    assert told.code == 2
    assert "as it was planned" in told.error


def test_the_command_can_be_repeated() -> None:
    asked = Asked("quickstart", ("memory_limit=8GiB",), {}, None, skip_unfit=True, project=Project())
    assert asked.command == ("bench", "run", "quickstart", "--set=memory_limit=8GiB", "--skip-unfit")


def test_what_an_engine_has_not_is_told_before_the_run() -> None:
    case = make_case(engine="llamacpp", quantization="q4_k_m", batch=4)
    facts = plan_facts(SUITE, [make_planned(case), make_planned()], 7)
    assert [one["refused"] for one in facts["cases"]] == [
        "llamacpp has no batch: leave it out, or choose another engine (`bench engines`).",
        None,
    ]
    assert "will be unsupported: llamacpp has no batch" in " ".join(shown(100, make_planned(case)).split())
