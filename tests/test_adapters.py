"""Adapters on disk: which are taken, and their identity."""

import json
from pathlib import Path

import pytest

from bench.adapters import CONFIG, WEIGHTS, resolve_adapter
from results.errors import UsageError


def make_adapter(folder: Path, *, kind: str = "LORA", weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps({"peft_type": kind}))
    (folder / WEIGHTS).write_bytes(weights)
    return folder


def test_identity_is_of_the_content_and_not_of_the_path(tmp_path: Path) -> None:
    one, same, other = (
        resolve_adapter(str(make_adapter(tmp_path / name, weights=weights)), tmp_path / "cache")
        for name, weights in (("one", b"a"), ("same", b"a"), ("other", b"b"))
    )
    assert (one.name, one.path) == ("one", tmp_path / "one")
    assert one.digest == same.digest != other.digest
    assert one.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "holds no adapter_config.json: name a folder that PEFT"),
        (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), "as pickled weights can run code"),
        (lambda folder: (folder / CONFIG).write_text("{"), "is no JSON object"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "is no JSON object"),
        (lambda folder: (folder / CONFIG).write_text('{"peft_type": "PROMPT_TUNING"}'), "only LoRA adapters are loaded"),
    ],
)
def test_what_is_no_lora_adapter_is_refused(tmp_path: Path, spoil: object, message: str) -> None:
    folder = make_adapter(tmp_path / "adapter")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        resolve_adapter(str(folder), tmp_path / "cache")
