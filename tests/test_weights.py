"""From a name to a folder on disk: catalog names, paths and hub ids, and one sentence for whatever stands in the way."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from children import Children
from fake_hub import Repository, fake_hub
from tiny_gemma import gguf_header, make_tiny_gguf

from bench.catalog import catalog
from bench.convert import publish
from bench.weights import (
    MissingWeightsError,
    ResolvedModel,
    WeightsError,
    cached_weights,
    check_room,
    not_converted,
    prepare,
    resolve,
    served,
    terms_notice,
)
from results.errors import UsageError

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def quiet(_step: str, _done: float | None) -> None: ...


def convert_by_hand(cache: Path, sha256: str) -> Path:
    target = cache / "converted" / sha256
    publish(target, lambda folder: (folder / "config.json").write_text("{}"), {"source": {"name": "m.gguf"}}, quiet)  # type: ignore[arg-type, return-value]
    return target


def test_packaged_model(tmp_path: Path) -> None:
    model = resolve("gemma-3-270m", "model", cache=tmp_path)
    assert model == ResolvedModel(
        "gemma-3-270m", "gemma-3-270m", f"sha256:{SHA256}", "q4_k_m", base=True, revision=None, stored="q4_k_m"
    )
    target = convert_by_hand(tmp_path, SHA256)
    assert prepare(model, quiet, cache=tmp_path) == target


def test_engines_that_load_the_file_itself_get_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header(7))
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path / "cache")
    assert model.stored == "q8_0"
    assert prepare(model, quiet, "gguf", cache=tmp_path / "cache") == tmp_path / "m.gguf"
    assert not (tmp_path / "cache" / "converted").exists()


def test_a_folder_is_no_gguf_file(gemma_files: Path, tmp_path: Path) -> None:
    model = resolve(str(gemma_files), "model", cache=tmp_path)
    with pytest.raises(WeightsError, match="comes in no GGUF file: name one, or choose the engine transformers"):
        prepare(model, quiet, "gguf", cache=tmp_path)


def test_a_served_model_needs_nothing_and_keeps_no_commit(tmp_path: Path) -> None:
    model = served("google/gemma-3-1b-it@" + "a" * 40)
    assert (model.name, model.weights) == ("google/gemma-3-1b-it", "served:google/gemma-3-1b-it")
    assert prepare(model, quiet, "served", cache=tmp_path) is None


def test_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header(7))
    monkeypatch.chdir(tmp_path)
    model = resolve("m.gguf", "model", cache=tmp_path / "cache")
    assert (model.name, model.reference, model.source_precision, model.base) == ("m.gguf", str(tmp_path / "m.gguf"), "q8_0", True)
    assert replace(model, reference="") == replace(resolve("./m.gguf", "model", cache=tmp_path / "cache"), reference="")
    (tmp_path / "linked.gguf").symlink_to("m.gguf")
    assert resolve("linked.gguf", "model", cache=tmp_path / "cache").name == "linked.gguf"
    target = convert_by_hand(tmp_path / "cache", model.weights.removeprefix("sha256:"))
    assert prepare(model, quiet, cache=tmp_path / "cache") == target


def test_local_folder(tmp_path: Path, gemma_files: Path) -> None:
    model = resolve(str(gemma_files), "model", cache=tmp_path)
    assert (model.name, model.base, model.source_precision, model.revision) == ("tiny-gemma", True, None, None)
    assert prepare(model, quiet, cache=tmp_path) == gemma_files
    assert terms_notice(model) is None
    with pytest.raises(MissingWeightsError, match="has changed since the start: run again"):
        prepare(replace(model, weights="sha256:" + "0" * 64), quiet, cache=tmp_path)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("gemma-3-8b-it", "'gemma-3-8b-it' is not in the catalog (the nearest there are gemma-3-4b-it, gemma-3-12b-it"),
        ("./none", "none: no such file or folder: check the spelling"),
        ("none.gguf", "none.gguf: no such file or folder"),
        ("models/gemma/none", "models/gemma/none: no such file or folder"),
        ("../none", "no such file or folder"),
        ("~/no-such-folder-here", "no such file or folder"),
        ("~no-such-user/model", "no such file or folder"),
        ("a b/c", "no such file or folder"),
        ("", "'' is not in the catalog"),
    ],
)
def test_what_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^matrix\.model\[0\]: .*" + re.escape(sentence)) as raised:
        resolve(reference, "matrix.model[0]", cache=tmp_path)
    assert raised.value.exit_code == 2


def test_resolving_loads_no_engine(gemma_files: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bench.weights import resolve\n"
        f"for reference in ('gemma-3-270m', {str(gemma_files)!r}): resolve(reference, 'model', cache=Path({str(tmp_path)!r}))\n"
        "print({'torch', 'transformers', 'huggingface_hub', 'numpy', 'gguf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_too_large_for_the_disk(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header(shapes=((1 << 30, 1 << 20),)))
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path)
    with pytest.raises(WeightsError, match=r"m\.gguf takes 4194304\.0 GiB as 32-bit floats .* set BENCH_CACHE to another folder"):
        prepare(model, quiet, cache=tmp_path)


def test_a_level_that_is_too_large_for_the_disk(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "m.gguf").write_bytes(gguf_header(shapes=((1 << 30, 1 << 20),)))
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path)
    with pytest.raises(WeightsError, match=r"m\.gguf takes 589824\.0 GiB at q4_0 .* set BENCH_CACHE to another folder"):
        prepare(model, quiet, "gguf", "q4_0", cache=tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header())
    (tmp_path / "file").touch()
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path / "file")
    with pytest.raises(
        WeightsError, match=r"the cache .*/file cannot be written \(\w.*\): free some space there, or set BENCH_CACHE"
    ):
        prepare(model, quiet, cache=tmp_path / "file")


def test_terms() -> None:
    terms = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
    hub_model = ResolvedModel("x", "google/gemma-3-1b-it@main", "hub:google/gemma-3-1b-it@c", None, False, "c")
    assert terms_notice(hub_model) == terms
    assert (terms_notice(resolve("gemma-3-270m", "model")) or "").startswith(terms)


def test_cached_weights(tmp_path: Path) -> None:
    assert cached_weights(tmp_path) == []
    target = convert_by_hand(tmp_path, "abc")
    whole = tmp_path / "gguf" / "abc" / "m.gguf"
    whole.parent.mkdir(parents=True)
    whole.write_bytes(b"12345")
    (tmp_path / "converted" / "abd.partial-1").mkdir()
    assert cached_weights(tmp_path) == [("m.gguf", whole, 5), ("m.gguf", target, 2)]


def test_too_large_for_the_memory(tmp_path: Path) -> None:
    check_room("m.gguf", 1 << 18, tmp_path, free_memory=2**30 + 2**20)
    with pytest.raises(
        WeightsError, match=r"converting m\.gguf takes 1\.2 GiB of memory and 1\.0 GiB are free: end other programs"
    ) as raised:
        check_room("m.gguf", 1 << 26, tmp_path, free_memory=2**30)
    assert raised.value.kind == "oom"


@pytest.mark.parametrize(
    ("code", "memory_gone", "kind", "sentence"),
    [
        (-9, True, "oom", "memory ran out while m.gguf was converted"),
        (-9, False, "engine_error", "converting m.gguf was ended by signal 9"),
        (-11, True, "engine_error", "converting m.gguf was ended by signal 11"),
        (1, True, "engine_error", "m.gguf could not be converted into cache (ValueError: x)"),
    ],
)
def test_how_a_conversion_ended(code: int, memory_gone: bool, kind: str, sentence: str) -> None:
    error = not_converted("m.gguf", Path("cache"), code, "ValueError: x", memory_gone=memory_gone)
    assert error.kind == kind
    assert str(error).startswith(sentence)


@pytest.mark.slow
def test_killed_and_interrupted_conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[dict[str, str]] = []
    children = Children()
    (tmp_path / "m.gguf").write_bytes(gguf_header())
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path)

    def kill(_step: str, _done: float | None) -> None:
        for child in children():
            environments.append(child.environ())
            child.kill()

    def interrupt(_step: str, _done: float | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_secret")
    monkeypatch.setenv("BENCH_STORE", "elsewhere.db")
    with pytest.raises(WeightsError, match=r"converting m\.gguf was ended by signal 9: "):
        prepare(model, kill, cache=tmp_path)
    assert environments[0]["HF_HUB_OFFLINE"] == "1"
    assert not {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "BENCH_STORE"} & environments[0].keys()
    with pytest.raises(KeyboardInterrupt):
        prepare(model, interrupt, cache=tmp_path)
    assert children() == []
    assert cached_weights(tmp_path) == []


@pytest.mark.slow
def test_gguf_file_is_converted_once(tmp_path: Path) -> None:
    make_tiny_gguf(tmp_path / "m.gguf")
    model, told = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path), []
    folder = prepare(model, lambda step, done: told.append((step, done)), cache=tmp_path)
    assert folder == tmp_path / "converted" / model.weights.removeprefix("sha256:")
    assert ("loading weights", 1.0) in told
    told.clear()
    assert prepare(model, lambda step, done: told.append((step, done)), cache=tmp_path) == folder
    assert told == []


@pytest.mark.slow
def test_failed_conversion_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_header())
    model = resolve(str(tmp_path / "m.gguf"), "model", cache=tmp_path)
    with pytest.raises(
        WeightsError, match=r"m\.gguf could not be converted into .*converted \(\w+Error: .*\): give that folder space"
    ) as raised:
        prepare(model, quiet, cache=tmp_path)
    assert "\n" not in str(raised.value)
    assert raised.value.kind == "engine_error"


@pytest.mark.slow
def test_hub_model(tmp_path: Path, tiny_gemma: Path) -> None:
    files = {file.name: file.read_bytes() for file in tiny_gemma.iterdir()}
    script = """
from bench.weights import prepare, resolve
for reference in ("google/gemma-3-1b-it", "gemma-3-1b-it", "some/other@v1"):
    model = resolve(reference, "model")
    print(model.name, model.weights, model.base, prepare(model, lambda step, done: None).name)
"""
    with fake_hub({name: Repository(files, revisions=("main", "v1")) for name in ("google/gemma-3-1b-it", "some/other")}) as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path), "NO_PROXY": "*", "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-P", "-c", script], env=os.environ | environment, capture_output=True, text=True, check=True
        )
    commit = "c" * 40
    assert done.stdout.splitlines() == [
        f"google/gemma-3-1b-it hub:google/gemma-3-1b-it@{commit} False {commit}",
        f"gemma-3-1b-it hub:google/gemma-3-1b-it@{commit} False {commit}",
        f"some/other hub:some/other@{commit} None {commit}",
    ]


@pytest.mark.engine
def test_the_packaged_model_says_what_it_said() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    pytest.importorskip(catalog()["gemma-3-270m"].package.module)  # type: ignore[union-attr]
    folder = prepare(resolve("gemma-3-270m", "model"), quiet)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Hello world").input_ids == [2, 9259, 1902]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    asked = tokenizer("What is machine learning?", return_tensors="pt")
    said = model.generate(**asked, generation_config=GenerationConfig(max_new_tokens=24, do_sample=False, pad_token_id=0))
    text = tokenizer.decode(said[0, asked.input_ids.shape[1] :])
    assert text.startswith("\n\nMachine learning is a branch of computer science that uses algorithms to learn from data.")
