"""Records survive their JSON, and a case's identity holds what it should and nothing else."""

import json

import pytest
from fakes import START, make_case, make_failure, make_measurement, make_planned, make_report, make_request, make_run
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from results.cases import Case, Load, Sampling, Training
from results.record import Record, digest
from results.records import Report, Request, RowWarning, RunEvent, Score, Series

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))

cases = st.builds(
    Case,
    weights=text, engine=text, device=text, dtype=text, quantization=text,
    source_precision=st.none() | text, threads=st.none() | st.integers(1, 99), purpose=st.sampled_from(["speed", "quality"]),
    workload=text, prompt_format=st.sampled_from(["plain", "chat"]), prompt_tokens=st.none() | st.integers(1),
    output_tokens=st.integers(1), stop=st.sampled_from(["length", "eos"]),
)  # fmt: skip


@given(cases)
def test_cases_survive_their_json_and_keep_their_ids(case: Case) -> None:
    again = Case.from_json(case.to_json())
    assert again == case
    assert (again.case_id, again.config_id) == (case.case_id, case.config_id)


@given(
    st.lists(st.tuples(finite, st.integers(0, 9)), max_size=5), st.dictionaries(text, finite, max_size=3), st.none() | text, st.none() | text
)  # fmt: skip
def test_requests_survive_their_json(
    events: list[tuple[float, int]], values: dict[str, float], prompt: str | None, error: str | None
) -> None:
    request = make_request(
        "q",
        event_times_s=tuple(time for time, _ in events),
        event_tokens=tuple(tokens for _, tokens in events),
        values=values,
        prompt=prompt,
        error=error,
    )
    assert Request.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    "record",
    [
        make_planned(),
        make_run(),
        make_failure("f", requests=(make_request("q"),)),
        make_measurement("m"),
        RunEvent(run_id="r", at=START, kind="finished"),
        Score(request_id="q", scorer="s", version="v1", item="i", value=0.5),
        Series(name="rss_bytes", unit="B", times_s=(0.1,), values=(2.0,)),
        RowWarning(kind="base_model"),
        make_report(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_every_record_survives_its_json(record: Record) -> None:
    assert type(record).from_json(record.to_json(indent=2)) == record
    assert json.loads(record.to_json())["schema"] == f"{type(record).__name__.lower()}/1"


def test_ids_are_pinned() -> None:
    """Stored ids must never move: whoever changes these numbers breaks every store."""
    assert make_case().case_id == "c1-88f5cf804a59e740"
    assert make_case().config_id == "g1-db39677b49392161"


def test_new_axes_do_not_move_old_ids() -> None:
    class Wider(Case):
        batch_size: int = 1

    fields = make_case().model_dump()
    assert Wider(**fields).case_id == make_case().case_id
    assert Wider(**fields, batch_size=2).case_id != make_case().case_id


@pytest.mark.parametrize(
    ("change", "moves_config"),
    [
        ({"output_tokens": 17}, False),
        ({"prompt_tokens": None}, False),
        ({"workload": "other"}, False),
        ({"prompt_format": "chat"}, False),
        ({"purpose": "quality"}, False),
        ({"stop": "eos"}, False),
        ({"threads": 1}, True),
        ({"dtype": "bf16"}, True),
        ({"quantization": "bf16"}, True),
        ({"source_precision": None}, True),
        ({"device": "cuda"}, True),
        ({"engine": "other"}, True),
        ({"weights": "sha256:0"}, True),
        ({"log_probabilities": True}, True),
    ],
)
def test_which_facts_make_another_case_and_which_another_configuration(change: dict[str, object], moves_config: bool) -> None:
    changed = make_case(**change)
    assert changed.case_id != make_case().case_id
    assert (changed.config_id != make_case().config_id) is moves_config


def test_records_are_frozen_strict_and_finite() -> None:
    with pytest.raises(ValidationError):
        make_case().threads = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        make_case(colour="red")
    with pytest.raises(ValidationError):
        Score(request_id="q", scorer="s", version="v1", item="i", value=float("nan"))
    with pytest.raises(ValueError, match="case/1"):
        Case.from_json('{"schema": "case/2"}')
    with pytest.raises(ValueError):
        digest(float("inf"))


def test_shape_has_the_fields_names() -> None:
    assert make_case(prompt_tokens=512, output_tokens=128).shape == "pp512 tg128"
    assert make_case(prompt_tokens=None).shape == "tg16"
    assert make_case(purpose="quality").shape == "quality"
    assert make_planned().label == "gemma-3-270m transformers fp32 cpu pp32 tg16"


def test_status_is_the_last_ending() -> None:
    report = make_report()
    assert report.status == "finished"
    assert report.model_copy(update={"events": ()}).status == "open"
    resumed = RunEvent(run_id=report.run.run_id, at=START, kind="resumed")
    assert report.model_copy(update={"events": (*report.events, resumed)}).status == "open"
    assert Report.from_json(report.to_json()).status == "finished"


def test_labels_tell_configurations_and_loads_apart() -> None:
    cases = [
        make_case(**changes)
        for changes in (
            {}, {"slots": 2}, {"prompt_cache": True}, {"log_probabilities": True}, {"target": "staging"}, {"turns": 2},
            {"load": Load(arrivals="closed", concurrency=2)}, {"load": Load(arrivals="poisson", rate=2.5)},
            {"load": Load(arrivals="constant", rate=2.5)}, {"shared_prefix_tokens": 8, "prefix_hit_rate": 0.5},
        )
    ]  # fmt: skip
    assert len({make_planned(case).label for case in cases}) == len({case.case_id for case in cases}) == len(cases)
    assert len({case.config_id for case in cases}) == 5


@pytest.mark.parametrize(
    ("record", "changes", "label"),
    [
        (
            Sampling(),
            {"top_p": 0.5, "top_k": 40, "repetition_penalty": 1.0, "seed": 3},
            "T0.7 top-p 0.5 top-k 40 penalty 1 seed 3",
        ),
        (
            Training(batch=2, sequence_tokens=128, accumulation=1),
            {
                "checkpointing": False,
                "learning_rate": 1e-4,
                "steps": 40,
                "dropout": 0.0,
                "alpha": 16,
                "accumulation": 4,
                "rank": 8,
            },
            "lora8 2×128 ×4 alpha 16 dropout 0 rate 0.0001 steps 40 no checkpointing",
        ),
    ],
)
def test_labels_of_sampling_and_training_tell_what_differs(
    record: Sampling | Training, changes: dict[str, float], label: str
) -> None:
    single = [record, *(record.model_copy(update={name: value}) for name, value in changes.items())]
    assert len({one.label for one in single}) == len(single)
    assert record.label in ("T0.7", "lora16 2×128")
    assert record.model_copy(update=changes).label == label
