"""A conversion appears whole or not at all, whoever is killed when, and gives the weights and words of its source."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from tiny_gemma import gguf_header, make_tiny_gguf, tiny_model

from bench.convert import complete, is_whole, place, publish, read_manifest

FACTS = {"source": {"name": "m.gguf"}}


def quiet(_step: str, _done: float | None) -> None: ...


def write(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


def refuse(_folder: Path) -> None:
    raise AssertionError("nothing is to be written")


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def test_publish_once(tmp_path: Path) -> None:
    target = tmp_path / "converted" / "abc"
    publish(target, write, FACTS, quiet)
    assert read_manifest(target) == FACTS | {"files": {"config.json": 2, "model.safetensors": 7}}
    assert names(target) == ["config.json", "manifest.json", "model.safetensors"]
    assert names(target.parent) == ["abc"]
    publish(target, refuse, FACTS, quiet)


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "abc", fail, FACTS, quiet)
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest", "half a manifest", "a list"])
def test_a_damaged_conversion_is_made_anew(tmp_path: Path, damage: str) -> None:
    target = tmp_path / "abc"
    publish(target, write, FACTS, quiet)
    if damage == "cut":
        (target / "model.safetensors").write_bytes(b"weigh")
    elif damage == "missing":
        (target / "config.json").unlink()
    elif damage == "no manifest":
        (target / "manifest.json").unlink()
    else:
        (target / "manifest.json").write_text("[]" if damage == "a list" else '{"files":')
    assert not is_whole(target)
    publish(target, write, FACTS, quiet)
    assert is_whole(target)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    target = tmp_path / "abc"
    script = f"""
import sys, time
from pathlib import Path
from bench.convert import publish
def write(folder):
    (folder / "config.json").write_text("{{}}")
    print("half", flush=True)
    time.sleep(60)
publish(Path({str(target)!r}), write, {{}}, lambda step, done: None)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].startswith("abc.partial-")
    assert not is_whole(target)
    publish(target, write, FACTS, quiet)
    assert names(tmp_path) == ["abc"]


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    target, halfway, waiting, told = tmp_path / "abc", threading.Event(), threading.Event(), []

    def slowly(folder: Path) -> None:
        halfway.set()
        assert waiting.wait(10)
        write(folder)

    def tell(step: str, _done: float | None) -> None:
        told.append(step)
        waiting.set()

    first = threading.Thread(target=publish, args=(target, slowly, FACTS, quiet))
    first.start()
    assert halfway.wait(10)
    publish(target, refuse, FACTS, tell)
    first.join()
    assert told == ["waiting for another run that converts the same weights"]
    assert is_whole(target)


def test_a_file_is_linked_or_copied(tmp_path: Path) -> None:
    def denied(_source: Path, _target: Path) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    source = tmp_path / "m.gguf"
    source.write_bytes(b"weights")
    for name, ways in (("a", (os.symlink, os.link)), ("b", (denied, os.link)), ("c", (denied, denied, shutil.copyfile))):
        place(source, tmp_path / name, ways)
        assert (tmp_path / name).read_bytes() == b"weights"
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").samefile(source)
    assert not (tmp_path / "c").samefile(source)
    with pytest.raises(OSError, match="privilege"):
        place(source, tmp_path / "d", (denied, denied))


def start(source: Path, target: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "bench.convert", str(source), str(target)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(gguf_header())
    with FileLock(tmp_path / "abc.lock"), start(source, tmp_path / "abc") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["step"].startswith("waiting for another run")
        if (score := Path(f"/proc/{child.pid}/oom_score_adj")).exists():
            assert score.read_text() == "1000\n"
        child.stdin.close()
        assert child.wait(timeout=10) == 1
    assert not (tmp_path / "abc").exists()


def test_larger_gemmas_get_what_transformers_leaves_out() -> None:
    def completed(model_type: str, layers: int, hidden: int, heads: int) -> SimpleNamespace:
        config = SimpleNamespace(
            model_type=model_type, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
            query_pre_attn_scalar=256, rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1e6}},
        )  # fmt: skip
        complete(config)
        return config

    scaled = {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
    plain = {"rope_type": "default", "rope_theta": 1e6}
    for layers, hidden, heads, rope, scalar in (
        (18, 640, 4, plain, 256), (26, 1152, 4, plain, 256), (34, 2560, 8, scaled, 256), (48, 3840, 16, scaled, 256), (62, 5376, 32, scaled, 168),
    ):  # fmt: skip
        config = completed("gemma3_text", layers, hidden, heads)
        assert (config.rope_parameters["full_attention"], config.query_pre_attn_scalar) == (rope, scalar)
    assert completed("gemma2", 46, 4608, 32).query_pre_attn_scalar == 144
    assert completed("gemma2", 42, 3584, 16).query_pre_attn_scalar == 256


@pytest.mark.slow
def test_converted_weights_and_words_are_those_of_the_source(tmp_path: Path, tiny_gemma: Path) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, target = make_tiny_gguf(tmp_path / "m.gguf"), tmp_path / "converted" / "abc"
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')  # lies beside it, is not part of it
    with start(source, target) as killed:
        assert killed.stdout is not None
        while json.loads(killed.stdout.readline())["step"] != "expanding the weights":
            pass
        killed.kill()
    assert not is_whole(target)
    with start(source, target) as child:
        assert child.stdout is not None
        told = [json.loads(line) for line in child.stdout]
        assert child.wait() == 0
    assert {"step": "loading weights", "done": 1.0} in told
    assert is_whole(target)
    assert names(target.parent) == ["abc"]
    assert [file for file in names(target) if "model" in file] == ["model.safetensors"]
    manifest = read_manifest(target)
    assert manifest is not None
    assert manifest["source"] == {"name": "m.gguf", "sha256": "abc", "precision": "q8_0"}

    expected = tiny_model(layer_types=["sliding_attention"] * 2)
    with torch.no_grad():
        for parameter in expected.parameters():
            if parameter.ndim > 1:
                packed = gguf.quantize(parameter.numpy(), gguf.GGMLQuantizationType.Q8_0)
                parameter.copy_(torch.from_numpy(gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)))
        ids = torch.tensor([[2, 271, 268, 300, 310, 280, 265, 264, 270, 290]])
        found = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, use_safetensors=True)
        torch.testing.assert_close(found(ids).logits, expected(ids).logits, rtol=1e-5, atol=1e-5)
    for text in ("What is AI?", "日本 ü", "two  spaces"):
        assert AutoTokenizer.from_pretrained(target)(text).input_ids == AutoTokenizer.from_pretrained(tiny_gemma)(text).input_ids
