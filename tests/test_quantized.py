"""Every level that runs on a CPU: it loads and speaks, layer by layer comes to the same, and its bytes are what the shapes say."""

import gc
import logging
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case
from lazily import Lazily
from tiny_gemma import make_tiny_gemma, tiny_model

from bench.classify import classify
from bench.engines import quantized
from bench.engines.protocol import Source, UnsupportedError
from bench.engines.transformers_model import load
from bench.engines.weights_bytes import weights_bytes
from bench.quantizations import LEVELS, dtype_of
from results.cases import Case

torch = Lazily("torch")
for package in ("bitsandbytes", "torchao", "optimum.quanto"):
    Lazily(package.partition(".")[0])
pytestmark = pytest.mark.slow

WIDE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 128}
"""Groups of 128 fit into its layers."""
LINEARS = [(256, 256), (128, 256), (128, 256), (256, 256), (512, 256), (512, 256), (256, 512)] * 2
"""(rows, width) of all linear layers but the output head: q, k, v, o, gate, up and down of two layers."""
RUNS = [(level, dtype) for level in LEVELS for dtype in quantized.WHERE[level]["cpu"]]
IDS = [[2, 270, 265, 290, 300, 266, 281, 277, 264, 299]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def wide_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_gemma(tmp_path_factory.mktemp("models") / "wide-gemma")
    tiny_model(**WIDE).save_pretrained(folder)
    return folder


def case_of(level: str, dtype: str | None = None, **changes: object) -> Case:
    return make_case(quantization=level, dtype=dtype or dtype_of(level), threads=1, source_precision=None, **changes)


def loaded(folder: Path, case: Case) -> Any:
    model, _ = load(Source(folder), case)
    return model


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(torch.tensor(IDS)).logits.float()


def away(found: Any, wanted: Any) -> float:
    """The distance as a share of what was wanted."""
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("level", "dtype"), RUNS)
def test_it_loads_and_speaks_nearly_like_the_full_weights(wide_gemma: Path, level: str, dtype: str) -> None:
    model = loaded(wide_gemma, case_of(level, dtype))
    assert not model.training
    assert model.dtype == getattr(torch, quantized.DTYPES[dtype])
    distance = away(logits(model), logits(loaded(wide_gemma, case_of("fp32"))))
    low, high = (0.05, 0.4) if level in ("nf4", "torchao-int4", "quanto-int4") else (0.001, 0.08)
    assert low < distance < high
    with torch.inference_mode():
        said = model.generate(torch.tensor(IDS), max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert said.shape == (1, len(IDS[0]) + 4)


@pytest.mark.parametrize(("level", "dtype"), RUNS)
def test_layer_by_layer_comes_to_the_same(wide_gemma: Path, level: str, dtype: str) -> None:
    case = case_of(level, dtype)
    whole, built = loaded(wide_gemma, case), loaded(wide_gemma, case_of(dtype, dtype))
    for layer in built.model.layers:
        quantized.quantize_layer(layer, case)
    built = quantized.finish(built, case)
    assert weights_bytes(built) == weights_bytes(whole)
    assert torch.equal(logits(built), logits(whole))
    assert weights_bytes(built) == weights_bytes(whole)


def nf4_bytes(rows: int, width: int) -> int:
    blocks = rows * width // 64
    scales = blocks + 4 * math.ceil(blocks / 256) + 4  # 8 bits each; by 256 of them a scale; and one offset
    return rows * width // 2 + scales + 4 * 16 + 4 * 256  # and the tables of the 16 and the 256 values


BYTES = {
    "int8": lambda rows, width: rows * width + 4 * rows,
    "nf4": nf4_bytes,
    "torchao-int8": lambda rows, width: rows * width + 4 * rows + rows,  # scales and zero points
    "torchao-int8-dynamic": lambda rows, width: rows * width + 4 * rows + rows,
    "torchao-int4": lambda rows, width: rows * width // 2 + 2 * 2 * rows * width // 128,
    "quanto-int8": lambda rows, width: rows * width + 2 * rows + 2 * 4,  # and the unused scales of activations
    "quanto-int4": lambda rows, width: rows * width // 2 + 2 * 2 * rows * width // 128 + 2 * 4,
    "dynamic-int8": lambda rows, width: rows * width + 8,
}
"""Of one linear layer at the level's own type of computing."""


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_are_what_the_shapes_say(wide_gemma: Path, level: str) -> None:
    float_bytes = 4 if level == "dynamic-int8" else 2
    full = loaded(wide_gemma, case_of(dtype_of(level)))
    others = weights_bytes(full) - float_bytes * sum(rows * width for rows, width in LINEARS)
    layers = [*LINEARS, (320, 256)] if level == "dynamic-int8" else LINEARS  # torch quantizes the output head too
    model = loaded(wide_gemma, case_of(level))
    assert weights_bytes(model) == others + sum(BYTES[level](rows, width) for rows, width in layers)


def test_bytes_of_full_weights_are_what_the_shapes_say() -> None:
    model = tiny_model(**WIDE)
    norms = 2 * (4 * 256 + 2 * 128) + 256
    tables = sum(buffer.numel() for buffer in model.buffers())
    assert weights_bytes(model) == 4 * (320 * 256 + sum(rows * width for rows, width in LINEARS) + norms + tables)


def test_packed_layers_hold_what_they_are_counted_with() -> None:
    torch.manual_seed(0)
    for bias in (False, True):
        layers = torch.nn.Sequential(torch.nn.Linear(48, 80, bias=bias))
        quantized.quantize_layer(layers, case_of("dynamic-int8"))
        weight, held = layers[0]._weight_bias()
        kept = 0 if held is None else held.numel() * held.element_size()
        assert weights_bytes(layers) == weight.int_repr().nbytes + 8 + kept
        assert (held is not None) == bias


@pytest.mark.parametrize("level", LEVELS)
def test_a_layer_keeps_its_bias_and_its_floats_go(level: str) -> None:
    case = case_of(level)
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.Tanh(), torch.nn.Linear(512, 256, bias=False)).eval()
    layers = layers.to(getattr(torch, quantized.DTYPES[case.dtype])).requires_grad_(False)
    x = torch.randn(4, 256, dtype=layers[0].weight.dtype)
    layers[0].bias.data += 1
    wanted = layers(x)
    floats = [weakref.ref(layers[0].weight), weakref.ref(layers[2].weight)]
    quantized.quantize_layer(layers, case)
    gc.collect()
    assert [one() for one in floats] == [None, None]
    assert not layers[0].training
    with torch.inference_mode():
        assert away(layers(x).float(), wanted.float()) < 0.15


def test_floats_are_left_alone() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8))
    linear = layers[0]
    quantized.quantize_layer(layers, case_of("fp32"))
    assert layers[0] is linear


@pytest.mark.parametrize("level", ["torchao-int4", "quanto-int4"])
def test_a_model_without_room_for_groups_is_refused(tiny_gemma: Path, level: str) -> None:
    with pytest.raises(UnsupportedError, match="groups of 128"):
        load(Source(tiny_gemma), case_of(level))


@pytest.mark.parametrize("level", [level for level in LEVELS if LEVELS[level].package])
def test_a_missing_package_is_named_with_what_installs_it(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = LEVELS[level].package or ""
    monkeypatch.setitem(__import__("sys").modules, {"optimum-quanto": "optimum.quanto"}.get(package, package), None)
    with pytest.raises(quantized.MissingDependencyError) as missing:
        quantized.loading(case_of(level))
    kind, text = classify(missing.value, "transformers")
    assert kind == "missing_dependency"
    assert package in text
    assert 'pip install "gemmeter[transformers,quantization]"' in text


@pytest.mark.parametrize("level", ["int8", "nf4"])
def test_bitsandbytes_warns_not_at_every_step(wide_gemma: Path, level: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        logits(loaded(wide_gemma, case_of(level)))
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]


def test_what_a_gpu_gets() -> None:
    for device in ("cuda", "mps"):
        assert quantized.loading(case_of("nf4", device=device))["device_map"] == {"": device}
    asked = quantized.loading(case_of("torchao-int4", device="cuda"))["quantization_config"].quant_type
    assert (asked.group_size, asked.int4_packing_format) == (128, "tile_packed_to_4d")


@pytest.mark.parametrize(
    ("level", "dtype"), [(level, dtype) for level in LEVELS for dtype in quantized.WHERE[level].get("cuda", ())]
)
def test_levels_on_cuda(wide_gemma: Path, level: str, dtype: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    case = case_of(level, dtype, device="cuda")
    if why := quantized.refusal(case):
        pytest.skip(why)
    whole, built = loaded(wide_gemma, case), loaded(wide_gemma, case_of(dtype, dtype, device="cuda"))
    for layer in built.model.layers:
        quantized.quantize_layer(layer, case)
    assert weights_bytes(built) == weights_bytes(whole)
    ids = torch.tensor(IDS, device="cuda")
    with torch.inference_mode():
        found = whole(ids).logits
        assert torch.equal(built(ids).logits, found)
    assert away(found.float().cpu(), logits(loaded(wide_gemma, case_of("fp32")))) < 0.4


TEXT = (
    "The river rises in the hills to the north, runs for about sixty miles through farms and small towns, and reaches the sea "
    "beside an old harbour. In spring the water is high and brown; by the end of summer one can walk across it in many places. "
    "People have lived on its banks for at least four thousand years, and most of the bridges that they use today stand where "
    "older ones of wood stood before."
)
MIB = {"bf16": 511, "int8": 416, "nf4": 370, "torchao-int8": 416, "torchao-int8-dynamic": 416, "torchao-int4": 371,
       "quanto-int8": 416, "quanto-int4": 371, "dynamic-int8": 896}  # fmt: skip
"""Weights of Gemma 3 270M before the first call; the embeddings, 320 MiB of them in 16 bits, stay floats."""


@pytest.mark.engine
def test_the_real_model_loses_what_each_level_costs() -> None:
    from bench.weights import prepare, resolve

    folder = prepare(resolve("gemma-3-270m", "test"), lambda *_: None)
    losses, sizes = {}, {}
    for level in ("fp32", "bf16", *LEVELS):
        model, tokenizer = load(Source(folder), case_of(level))
        sizes[level] = weights_bytes(model)
        ids = torch.tensor([tokenizer(TEXT).input_ids])
        with torch.inference_mode():
            losses[level] = model(ids, labels=ids).loss.item()
    assert {level: round(sizes[level] / 2**20) for level in MIB} == MIB
    more = {level: loss - losses["fp32"] for level, loss in losses.items()}
    eight_bits = ("int8", "torchao-int8", "torchao-int8-dynamic", "quanto-int8")
    assert max(abs(more[level]) for level in ("bf16", *eight_bits)) < 0.05
    for level in ("nf4", "torchao-int4", "quanto-int4"):
        assert 0.05 < more[level] < 0.6, level
    assert more["nf4"] < min(more["torchao-int4"], more["quanto-int4"])
    assert 0.2 < more["dynamic-int8"] < 0.8
