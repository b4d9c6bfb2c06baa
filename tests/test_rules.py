"""Rule files: the built-in one, and every mistake answered with its place."""

import json
from pathlib import Path

import pytest
import yaml

from results.errors import UsageError
from results.rules import RULE_METRICS, Rule, json_schema, load_rules

SUITES = Path(__file__).parents[1] / "suites"


def test_built_in_rules_are_the_tutorials_thresholds() -> None:
    found = [(rule.metric, rule.above, rule.below, rule.severity, rule.last) for rule in load_rules()]
    assert found == [
        ("e2e_s", 10, None, "medium", 10),
        ("rss_bytes", 8192 * 2**20, None, "medium", 10),
        ("e2e_tps", None, 5, "low", 10),
        ("success_rate", None, 0.95, "high", 10),
        ("successful_requests", None, 1, "high", 10),
    ]


def test_schema_file_is_in_step() -> None:
    assert (SUITES / "rules.schema.json").read_text(encoding="utf-8") == json_schema()


def test_schema_accepts_what_the_loader_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json_schema())
    jsonschema.validate(yaml.safe_load((SUITES / "rules/tutorial.yaml").read_text(encoding="utf-8")), schema)
    wrong: object
    for wrong in ({"rules": []}, {"rules": [{"name": "a", "metric": "ttft_s"}]}, {"rules": [], "extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "rules:\n- {name: a, metric: ttft_s, above: 1}\n- {name: b, metric: ttft_s, above: 1}\n- {name: c, metric: ttft, above: 1}",
            r"rules\[2\]\.metric: unknown metric 'ttft', did you mean 'ttft_s'\?",
        ),
        ("rules: [{name: a, metric: peak_rss_bytes, above: 1}]", r"rules\[0\]\.metric: .* no metric of single requests"),
        ("rules: [{name: a, metric: ttft_s, abov: 1}]", r"rules\[0\]\.abov: unknown key, did you mean 'above'\?"),
        ("rules: [{name: a, metric: ttft_s}]", r"rules\[0\]: give either `above` or `below`"),
        ("rules: [{name: a, metric: ttft_s, above: 1, below: 2}]", r"rules\[0\]: give either `above` or `below`"),
        ("rules: [{name: a, metric: ttft_s, above: .nan}]", r"rules\[0\]\.above: .*finite"),
        ("rules: [{name: a, metric: ttft_s, above: true}]", r"rules\[0\]\.above: .*number"),
        ("rules: [{name: a, metric: ttft_s, above: '1'}]", r"rules\[0\]\.above: .*number"),
        ("rules: [{name: a, metric: ttft_s, above: 1, severity: hgih}]", r"rules\[0\]\.severity: .*did you mean 'high'"),
        ("rules: [{name: a, metric: ttft_s, above: 1, last: 0}]", r"rules\[0\]\.last"),
        ("rules: [{name: a, metric: ttft_s, above: 1, min_samples: 11}]", "can never be reached"),
        ("rules: [{name: A b, metric: ttft_s, above: 1}]", r"rules\[0\]\.name"),
        ("rules: [{name: a, metric: ttft_s, above: 1}, {name: a, metric: e2e_s, above: 1}]", "'a' names both rule 0 and rule 1"),
        ("rules: [{name: a, name: b, metric: ttft_s, above: 1}]", "'name' stands twice"),
        ("rules: []", "rules: is empty"),
        ("", "expected a mapping"),
        ("rules: [", "not valid YAML"),
        ("rules: [!!python/object/apply:os.getcwd []]", "not valid YAML"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_rules(path)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml")


def test_limits_are_strict() -> None:
    above, below = Rule(name="a", metric="e2e_s", above=10), Rule(name="b", metric="e2e_s", below=0)
    assert [above.fires(value) for value in (9.9, 10, 10.1)] == [False, False, True]
    assert [below.fires(value) for value in (-0.1, 0, 0.1)] == [True, False, False]
    assert (above.threshold, below.threshold) == (10, 0)


def test_rules_watch_requests() -> None:
    assert {"ttft_s", "e2e_tps", "rss_bytes", "success_rate", "successful_requests"} <= RULE_METRICS.keys()
    assert not {"peak_rss_bytes", "quality", "load_s"} & RULE_METRICS.keys()
