"""Policy files: every key, and every mistake answered with its place."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from fakes import make_case, make_planned

from bench.commands.suites import schema
from results.errors import UsageError
from results.metrics import METRICS
from results.policy import Policy, json_schema, load_policy

SUITES = Path(__file__).parents[1] / "suites"
LONG = make_planned(make_case(output_tokens=64), tags=("long",))
SHORT = make_planned()
EVERYTHING = """
name: ours
rules:
  - {metrics: [peak_*], gate: false}
  - {metrics: [ttft_s, tpot_s], margin: 8%, floor: 1 ms}
  - {metrics: [tpot_s], cases: long, margin: 3 %}
  - {metrics: [load_s], margin: 0.2}
  - {metrics: [quality], margin: 2 points}
  - {metrics: [peak_rss_bytes], cases: "*tg64*", floor: 10 MiB, gate: true}
inconclusive: pass
missing_cases: pass
lone_regressions: confirm
allow_failures: [timeout]
allow_env_diff: [cpu_count]
confidence: 0.99
looks: [3, 6, 9]
"""


def policy_of(text: str, tmp_path: Path) -> Policy:
    (tmp_path / "nightly.yaml").write_text(text)
    return load_policy(tmp_path / "nightly.yaml")


def test_every_key_is_read(tmp_path: Path) -> None:
    policy = policy_of(EVERYTHING, tmp_path)
    assert (policy.name, policy.inconclusive, policy.missing_cases, policy.lone_regressions) == (
        "ours",
        "pass",
        "pass",
        "confirm",
    )
    assert (policy.allow_failures, policy.allow_env_diff) == (("timeout",), ("cpu_count",))
    assert (policy.confidence, policy.looks) == (0.99, (3, 6, 9))


@pytest.mark.parametrize(
    ("metric", "short", "long"),
    [
        ("ttft_s", (0.08, 0.001, True), (0.08, 0.001, True)),
        ("tpot_s", (0.08, 0.001, True), (0.03, 0.001, True)),  # the later rule has no floor: the earlier one's stays
        ("load_s", (0.2, 0, True), (0.2, 0, True)),
        ("quality", (0.02, 0, True), (0.02, 0, True)),
        ("error_share", (0.01, 0, True), (0.01, 0, True)),
        ("peak_rss_bytes", (0.03, 0, False), (0.03, 10 * 2**20, True)),
        ("weights_bytes", (0.0, 0, True), (0.0, 0, True)),
        ("decode_tps", (None, 0, True), (None, 0, True)),
        ("price_per_hour", (None, 0, True), (None, 0, True)),
    ],
)
def test_the_last_rule_that_fits_counts_field_by_field(metric: str, short: object, long: object, tmp_path: Path) -> None:
    policy, known = policy_of(EVERYTHING, tmp_path), METRICS[metric]
    assert [
        (policy.margin_of(planned, known), policy.floor_of(planned, known), policy.gates(planned, known))
        for planned in (SHORT, LONG)
    ] == [short, long]


def test_cases_are_named_by_label_id_or_tag() -> None:
    for pattern in (LONG.label, LONG.case.case_id, "long", "*tg64"):
        policy = Policy.model_validate({"rules": [{"cases": pattern, "gate": False}]})
        assert [policy.gates(planned, METRICS["ttft_s"]) for planned in (SHORT, LONG)] == [True, False], pattern


def test_a_wide_pattern_takes_the_metrics_of_the_margins_kind() -> None:
    policy = Policy.model_validate({"rules": [{"metrics": ["*"], "margin": "10%"}, {"metrics": ["*"], "margin": "3 points"}]})
    assert policy.margin_of(SHORT, METRICS["itl_s"]) == 0.1
    assert policy.margin_of(SHORT, METRICS["quality"]) == 0.03
    assert {"itl_s", "load_s", "relevance"} <= policy.asked
    assert not {"ttft_s", "quality", "price_per_hour"} & policy.asked


@pytest.mark.parametrize(
    ("floor", "metric", "base"),
    [
        ("1 ms", "ttft_s", 0.001), ("250us", "ttft_s", 0.00025), ("2 s", "ttft_s", 2), ("10 MiB", "peak_rss_bytes", 10485760),
        ("1.5 GB", "peak_rss_bytes", 1.5e9), ("0.5 tok/s", "decode_tps", 0.5), ("2/s", "goodput_rps", 2), ("1 point", "error_share", 0.01),
        ("5 mJ", "energy_per_token_j", 0.005), (0.02, "ttft_s", 0.02),
    ],
)  # fmt: skip
def test_floors_have_units(floor: object, metric: str, base: float) -> None:
    policy = Policy.model_validate({"rules": [{"metrics": [metric], "floor": floor}]})
    assert policy.floor_of(SHORT, METRICS[metric]) == pytest.approx(base)


def test_the_files_name_is_the_policys_unless_it_says_another(tmp_path: Path) -> None:
    assert policy_of("missing_cases: pass", tmp_path).name == "nightly"
    assert policy_of("name: ours", tmp_path).name == "ours"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin: 5%", r"margin: unknown key, did you mean '(name|looks)'|margin: unknown key: choose from name"),
        ("rules: [{metric: [ttft_s]}]", r"rules\[0\]\.metric: unknown key, did you mean 'metrics'"),
        ("rules: [{metrics: [tttf_s]}]", r"rules\[0\]\.metrics: unknown metric 'tttf_s', did you mean 'ttft_s'"),
        ("rules: [{metrics: ['energie*']}]", r"rules\[0\]\.metrics: no metric fits 'energie\*'"),
        ("rules: [{metrics: [price_per_hour]}]", "cannot be judged"),
        ("rules: [{metrics: ttft_s}]", r"rules\[0\]\.metrics: write it as a list: \[ttft_s\]"),
        ("rules: [{metrics: []}]", r"rules\[0\]\.metrics: is empty"),
        ("rules: [{margin: five}]", r"rules\[0\]\.margin: 'five' is no amount"),
        ("rules: [{margin: -5%}]", r"rules\[0\]\.margin: '-5%' is no amount"),
        ("rules: [{margin: .nan}]", r"rules\[0\]\.margin: nan is no amount"),
        ("rules: [{margin: true}]", r"rules\[0\]\.margin: True is no amount"),
        ("rules: [{margin: 5}]", r"rules\[0\]: margin: 5 would be 500 %"),
        ("rules: [{margin: 5 ms}]", r"rules\[0\]: margin: '5 ms' says nothing about \*"),
        ("rules: [{metrics: [quality], margin: 5%}]", r"rules\[0\]: margin: '5%' says nothing about quality \(unit: score\)"),
        ("rules: [{metrics: [ttft_s, peak_rss_bytes], floor: 1 ms}]", r"floor: '1 ms' says nothing about peak_rss_bytes"),
        ("looks: [5, 3]", "looks: must grow"),
        ("looks: [2, 4]", "looks: must grow, from 3"),
        ("looks: []", "looks: is empty"),
        ("confidence: 95", "confidence: input should be less than 1"),
        ("allow_failures: [crashed]", r"allow_failures\[0\]: unknown .*did you mean 'crash'"),
        ("allow_env_diff: [gpu]", "allow_env_diff: unknown hard fact 'gpu', did you mean 'gpus'"),
        ("inconclusive: ignore", r"inconclusive: unknown inconclusive 'ignore'"),
        ("- 1", "expected a mapping"),
    ],
)
def test_mistakes_name_their_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as found:
        policy_of(text, tmp_path)
    assert str(found.value).startswith(str(tmp_path / "nightly.yaml"))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read"):
        load_policy(tmp_path / "none.yaml")


def test_schema_file_and_command_are_in_step() -> None:
    text = (SUITES / "policy.schema.json").read_text(encoding="utf-8")
    assert text == json_schema() == CliRunner().invoke(schema, ["--policy"]).output


def test_schema_accepts_what_the_loader_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    form = json.loads(json_schema())
    for text in (EVERYTHING, "{}"):
        jsonschema.validate(yaml.safe_load(text), form)
    wrong: object
    for wrong in (
        {"margin": "5%"},
        {"rules": [{"metric": ["ttft_s"]}]},
        {"looks": []},
        {"confidence": 95},
        {"inconclusive": "ignore"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, form)
