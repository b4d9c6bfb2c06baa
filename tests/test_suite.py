"""Suites: what they expand to, and one clear sentence for each way to write them wrong."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from bench.cases import Machine
from bench.expansion import expand
from bench.suite import Suite, anchor, find_suite, load_suite, schema_json, suite_hash, suite_names
from bench.weights import ResolvedModel
from results.cases import PlannedCase
from results.errors import UsageError

MACHINE = Machine(device="cpu", threads=2)
GOOD = """
name: mine
question: Is it fast?
defaults: {processes: 2}
matrix: {model: [gemma-3-270m], dtype: [fp32, bf16], output_tokens: [16, 32]}
exclude: [{dtype: bf16, output_tokens: 32}]
include: [{model: gemma-3-270m, output_tokens: 64, iterations: 1, tags: [long]}]
workload: {prompts: five-questions, prompt_tokens: 32}
quality: [heuristic-v1]
"""


def resolve(reference: str, where: str) -> ResolvedModel:
    if reference not in ("gemma-3-270m", "other"):
        raise UsageError(f"{where}: no model {reference!r}")
    return ResolvedModel(reference, reference, f"sha256:{reference:0>64}", "q4_k_m", True, None)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return path

    return write


def plan(path: Path, overrides: dict[str, object] | None = None) -> tuple[PlannedCase, ...]:
    return expand(load_suite(path, overrides), MACHINE, resolve).planned


def test_matrix_minus_excludes_plus_includes_plus_quality(write: Callable[[str], Path]) -> None:
    planned = plan(write(GOOD))
    assert [(one.case.purpose, one.case.dtype, one.case.output_tokens) for one in planned] == [
        ("speed", "fp32", 16),
        ("speed", "fp32", 32),
        ("speed", "bf16", 16),
        ("speed", "fp32", 64),
        ("quality", "fp32", 64),
        ("quality", "bf16", 64),
    ]
    assert [one.processes for one in planned] == [2, 2, 2, 2, 1, 1]
    assert planned[3].tags == ("long",)
    assert planned[3].iterations == 1
    assert {one.case.threads for one in planned} == {2}
    assert planned[0].case.quantization == "fp32"
    assert planned[0].case.source_precision == "q4_k_m"
    assert planned[0].case.config_id == planned[1].case.config_id == planned[4].case.config_id != planned[2].case.config_id
    assert len({one.case.case_id for one in planned}) == 6


def test_every_built_in_suite_is_valid() -> None:
    for path in Path(str(files("suites"))).glob("*.yaml"):
        if path.name != "catalog.yaml":
            assert plan(path)


def test_the_quickstart_has_the_shape_that_the_readme_shows() -> None:
    labels = [one.label for one in plan(find_suite("quickstart"))]
    assert labels == [
        "gemma-3-270m transformers fp32 cpu pp32 tg16",
        "gemma-3-270m transformers fp32 cpu pp32 tg32",
        "gemma-3-270m transformers bf16 cpu pp32 tg16",
        "gemma-3-270m transformers fp32 cpu pp32 tg64",
        "gemma-3-270m transformers fp32 cpu quality",
        "gemma-3-270m transformers bf16 cpu quality",
    ]


def test_ids_do_not_depend_on_order_names_or_repetition(write: Callable[[str], Path]) -> None:
    first = {one.label: one.case.case_id for one in plan(write(GOOD))}
    turned = (
        GOOD.replace("[fp32, bf16]", "[bf16, fp32]").replace("name: mine", "name: yours").replace("processes: 2", "processes: 9")
    )
    assert {one.label: one.case.case_id for one in plan(write(turned))} == first


def test_overrides_replace_defaults_axes_and_includes(write: Callable[[str], Path]) -> None:
    planned = plan(write(GOOD), {"processes": 1, "dtype": "bf16"})
    assert {one.case.dtype for one in planned} == {"bf16"}
    assert {one.processes for one in planned} == {1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("fp32, bf16", "fp32, bf61"), "matrix.dtype[1]: unknown dtype 'bf61', did you mean 'bf16'?"),
        (("dtype: [fp32, bf16]", "quantization: [fp32, bf16, int3]"), "matrix.quantization[2]: unknown quantization 'int3'"),
        (("dtype: [", "dtpye: ["), "matrix.dtpye: unknown key, did you mean 'dtype'?"),
        (("{processes: 2}", "{threads: 0}"), "defaults.threads: input should be greater than or equal to 1, found 0."),
        (("{processes: 2}", "{timeout_s: .inf}"), "defaults.timeout_s: input should be a finite number"),
        (("{processes: 2}", "{min_seconds: 60, timeout_s: 10}"), "min_seconds 60 must be less than timeout_s 10"),
        (("question:", "qestion:"), "qestion: unknown key, did you mean 'question'?"),
        (("question: Is it fast?\n", ""), "question: is missing."),
        (("output_tokens: [16, 32]", "output_tokens: []"), "matrix.output_tokens: is empty: give at least one value."),
        (("[16, 32]", "[16, 16]"), "matrix.output_tokens[1]: repeats 16"),
        (("[16, 32]", "[16, many]"), "matrix.output_tokens[1]: "),
        (("{processes: 2}", "{processes: 0}"), "defaults.processes: input should be greater than or equal to 1, found 0."),
        (("{processes: 2}", "{processes: 1001}"), "defaults.processes: input should be less than or equal to 1000, found 1001."),
        (("output_tokens: 32}]", "output_tokens: 99}]"), "exclude[0]: matches no case"),
        (("output_tokens: 64", "output_tokens: 16"), "include[0].model: repeats the case gemma-3-270m transformers fp32 cpu pp32 tg16"),
        (("include: [{model: gemma-3-270m", "include: [{model: nosuch"), "include[0].model: no model 'nosuch'"),
        (("model: [gemma-3-270m]", "model: [other, nosuch]"), "matrix.model[1]: no model 'nosuch'"),
        (("include: [{model: gemma-3-270m, ", "include: [{"), "include[0].model: is missing"),
        (("prompts: five-questions", "prompts: five-question"), "workload.prompts: no file and no built-in set 'five-question', did you mean"),
        (("quality: [heuristic-v1]", "quality: [heuristic]"), "quality[0]: unknown quality 'heuristic', did you mean 'heuristic-v1'?"),
        (("name: mine", "name: [mine"), "not valid YAML"),
        (("name: mine", "name: mine\nname: yours"), "the key 'name' stands twice"),
        (("\nname: mine", "\n- name: mine\n- b"), "not valid YAML"),
    ],
)  # fmt: skip
def test_a_wrong_suite_gets_one_sentence_with_its_place(
    change: tuple[str, str], sentence: str, write: Callable[[str], Path]
) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError) as caught:
        plan(write(GOOD.replace(*change)))
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_words_that_yaml_takes_for_truth_values_are_words(write: Callable[[str], Path]) -> None:
    bare = "include: [{model: gemma-3-270m, output_tokens: 64, kv_cache: off, attention: on}]"
    suite = load_suite(write(re.sub("include: .*", bare, GOOD)))
    assert (suite.include[0].kv_cache, suite.include[0].attention) == ("off", "on")
    overridden = load_suite(write(re.sub("include: .*", bare, GOOD)), {"kv_cache": False})
    assert overridden.defaults.kv_cache == "off"
    assert overridden.include[0].attention == "on"  # it asks for the same cache, so it stays
    listed = load_suite(write(GOOD.replace("dtype: [fp32, bf16]", "attention: [on, off]"))).source()["matrix"]["attention"]
    assert listed == ["on", "off"]
    with pytest.raises(UsageError, match="unknown kv_cache 'on'"):
        load_suite(write(GOOD), {"kv_cache": True})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping"),
        ("just text", "expected a mapping"),
        ("name: 2026-99-99", "not valid YAML"),
        ("{[1]: 2}", "not valid YAML"),
        ("[" * 1500, "not valid YAML"),
        ("name: a\nquestion: b\nmatrix: {}\n", "no case is left"),
        ("name: a\nquestion: b\n", "no case is left"),
        ("name: a\nquestion: b\nmatrix: {dtype: [fp32]}\n", "matrix.model: is missing"),
        ("name: a\nquestion: b\nmatrix: {model: [other]}\nexclude: [{model: other}]\n", "no case is left"),
    ],
)
def test_an_empty_suite_is_refused(text: str, words: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match=words):
        plan(write(text))


def test_unknown_suites_get_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'quickstart'"):
        find_suite("quikstart")
    with pytest.raises(UsageError, match="no suite file"):
        find_suite(str(tmp_path / "none.yaml"))


def test_overrides_add_no_case_to_a_suite_without_a_matrix(write: Callable[[str], Path]) -> None:
    path = write("name: mine\nquestion: Q\ninclude: [{model: m, output_tokens: 4}, {model: m, output_tokens: 8}]\n")
    assert [one.case.output_tokens for one in plan(path, {"model": "other"})] == [4, 8]
    assert [one.case.output_tokens for one in plan(path, {"model": "other", "output_tokens": 8})] == [8]
    assert [one.case.output_tokens for one in plan(path, {"model": "other", "output_tokens": 9})] == [9]


@pytest.mark.parametrize("overrides", [{"dtype": "fp32"}, {"output_tokens": 8}, {"model": "other", "threads": 1}])
def test_the_quickstart_can_be_overridden(overrides: dict[str, object]) -> None:
    planned = plan(find_suite("quickstart"), overrides)
    assert planned
    if "dtype" in overrides:
        assert {one.case.dtype for one in planned} == {"fp32"}


def test_paths_are_relative_to_the_suite(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "asked.yaml").write_text("name: asked\nprompts: [Why?]\n")
    text = GOOD.replace("[gemma-3-270m]", "[models/mine, google/gemma]").replace("prompts: five-questions", "prompts: asked.yaml")
    suite = load_suite(write(text))
    moved = anchor(suite, tmp_path)
    assert moved.source()["matrix"]["model"] == [str(tmp_path / "models/mine"), "google/gemma"]
    assert moved.workload.prompts == str(tmp_path / "asked.yaml")
    assert anchor(moved, Path("/elsewhere")) == moved
    assert suite_hash(suite) == suite_hash(load_suite(write(text)))


def test_a_suite_survives_its_stored_form(write: Callable[[str], Path]) -> None:
    suite = load_suite(write(GOOD))
    assert Suite.model_validate(json.loads(json.dumps(suite.source()))) == suite


def test_the_published_schema_is_in_step() -> None:
    assert (files("suites") / "suite.schema.json").read_text() == schema_json() + "\n"


@pytest.mark.parametrize("name", suite_names())
def test_cases_of_a_built_in_suite_have_labels_of_their_own(name: str) -> None:
    labels = [one.label for one in expand(load_suite(find_suite(name)), MACHINE, resolve).planned]
    assert len(set(labels)) == len(labels)
