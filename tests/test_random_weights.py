import json
from pathlib import Path

import pytest

from bench.catalog import catalog
from bench.random_weights import random_model
from results.cases import RANDOM
from results.errors import UsageError

LLAMA = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 32000}


def folder(path: Path, config: object) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def test_a_catalog_model_brings_its_architecture_and_no_weights() -> None:
    model = random_model("gemma-3-1b-it", "matrix.model[0]")
    assert (model.name, model.reference, model.base) == ("gemma-3-1b-it", "gemma-3-1b-it", False)
    assert (model.source_precision, model.revision, model.stored) == (None, None, None)
    assert model.weights.startswith(RANDOM)
    assert model.architecture is not None
    assert model.architecture["model_type"] == "gemma3_text"
    assert model.architecture["hidden_size"] == 1152
    json.dumps(model.architecture)  # it goes to the worker


def test_a_base_model_and_its_instruct_one_share_an_identity_and_other_sizes_do_not() -> None:
    one, tuned = random_model("gemma-3-1b-pt", "model"), random_model("gemma-3-1b-it", "model")
    assert one.weights == tuned.weights
    assert (one.base, tuned.base) == (True, False)
    assert random_model("gemma-3-4b-it", "model").weights != one.weights


def test_a_hub_id_of_the_catalog_means_the_catalog_model() -> None:
    assert random_model("google/gemma-3-1b-it@main", "model") == random_model("gemma-3-1b-it", "model")


@pytest.mark.parametrize("name", catalog())
def test_every_catalog_model_has_dimensions(name: str) -> None:
    assert random_model(name, "model").architecture


def test_a_folder_needs_no_more_than_its_configuration(tmp_path: Path) -> None:
    model = random_model(folder(tmp_path / "tiny-llama", LLAMA), "model")
    assert (model.name, model.reference, model.base) == ("tiny-llama", str(tmp_path / "tiny-llama"), None)
    assert model.architecture == LLAMA


def test_how_weights_were_stored_is_no_part_of_an_architecture(tmp_path: Path) -> None:
    stored = {"torch_dtype": "bfloat16", "architectures": ["LlamaForCausalLM"], "auto_map": {"AutoModel": "own.py"}}
    saved = {"transformers_version": "5.1", "quantization_config": {"quant_method": "awq"}, "_name_or_path": "x"}
    plain = random_model(folder(tmp_path / "plain", LLAMA), "model")
    other = random_model(folder(tmp_path / "other", dict(reversed((LLAMA | stored | saved).items()))), "model")
    parts = {"text_config": LLAMA, "towers": [LLAMA]}
    of_parts = random_model(folder(tmp_path / "parts", LLAMA | parts), "model")
    kept = {"text_config": LLAMA | stored | saved, "towers": [LLAMA | {"dtype": "bfloat16"}]}
    assert random_model(folder(tmp_path / "kept", LLAMA | kept), "model").weights == of_parts.weights != plain.weights
    deeper = random_model(folder(tmp_path / "deeper", LLAMA | {"num_hidden_layers": 3}), "model")
    assert plain.weights == other.weights
    assert other.architecture == LLAMA
    assert deeper.weights != plain.weights


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no config.json"),
        ("{", "is no JSON"),
        ("[]", "names no model_type"),
        ('{"hidden_size": 8}', "names no model_type"),
    ],
)
def test_a_folder_without_a_configuration_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        random_model(str(tmp_path), "include[0].model")
    assert str(caught.value).startswith("include[0].model: ")


@pytest.mark.parametrize(("name", "near"), [("gemma-3-8b-it", "gemma-3-4b-it"), ("google/gemma-3-2b-it", "google/gemma-3-1b-it")])
def test_a_model_that_does_not_exist_gets_the_nearest_ones(name: str, near: str) -> None:
    with pytest.raises(UsageError, match="random weights need a catalog name, or a folder") as caught:
        random_model(name, "matrix.model[1]")
    assert str(caught.value).startswith(f"matrix.model[1]: '{name}' is not in the catalog (the nearest there are ")
    assert near in str(caught.value)


def test_a_file_is_no_architecture(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(UsageError, match=r"model\.gguf holds no config\.json"):
        random_model(str(tmp_path / "model.gguf"), "model")


def test_of_gemma_3n_the_text_part_is_built() -> None:
    model = random_model("gemma-3n-e2b-it", "model")
    assert model.architecture is not None
    assert model.architecture["model_type"] == "gemma3n_text"
    assert model.architecture["hidden_size"] == 2048
    assert "vision_config" not in model.architecture
