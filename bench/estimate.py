"""What a case will take of its device's memory, before it is tried: weights, KV cache, activations and the runtime.

`docs/estimates.md` says where each figure comes from and how far it was off where it was measured.
"""

from dataclasses import dataclass

from bench.architecture import Architecture
from bench.context import context_of
from bench.engines import support
from bench.level_sizes import NUMBER_BYTES
from results.cases import Case, MemoryEstimate, PlannedCase, Training
from results.format import quantity

MIB = 2**20
PROMPT_TOKENS = 64
"""Of a prompt that is as long as it is: of a quality pass, of a trace."""
CPU_RUNTIME = {"folder": (365 * MIB, 1330), "gguf": (62 * MIB, 260)}
"""Bytes of Python with the libraries of an engine that loads such weights, and of its tokenizer for each token that it knows; measured
on Linux with torch 2.13, transformers 5.23 and xllamacpp 0.2, on a CPU."""
LEFT_BY_LOADERS = frozenset({"dynamic-int8"})
"""Levels whose making leaves the linear layers' floats behind, in a CPU's mapped files."""
CUDA_RUNTIME_BYTES = 500 * MIB
"""On the device: CUDA's context, the kernels and the workspaces of its libraries."""
FILL_TOKENS = 512
"""Computed at a time where a KV cache is filled before a request."""
UBATCH_TOKENS = 512
"""Tokens of a prompt that llama.cpp computes at a time; its sliding windows keep so many more."""
GGUF_KV_BYTES = 2.0
LOGIT_COPIES = 4
"""Of the logits of all tokens in 32-bit floats that a step of training holds at its peak: as they are, their logarithms' softmax, and
the gradients of both."""
KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5 + 4 / 64, "int2": 0.25 + 4 / 64, "q8_0": 34 / 32, "q5_1": 24 / 32,
    "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32, **NUMBER_BYTES,
}  # fmt: skip
"""Bytes of one number of a KV cache in a format, its scales included."""


@dataclass(frozen=True)
class Stored:
    """What a GGUF file's weights take in memory."""

    weights_bytes: int
    repacked_bytes: int = 0
    """Of the matrices that llama.cpp holds a second time on a CPU, in an order that its kernels read faster."""


def estimate(
    case: Case, architecture: Architecture, available_bytes: int | None, draft: Architecture | None = None, *,
    stored: Stored | None = None, draft_stored: Stored | None = None, context_tokens: int | None = None,
) -> MemoryEstimate:  # fmt: skip
    """
    Args:
        available_bytes: free on the case's device, or on all that share its layers.
        draft: of the model that drafts.
        stored: of the model's GGUF file, where the engine loads one.
        context_tokens: room per sequence, where the engine makes it when it loads; `None`: what the case's lengths need.

    Raises:
        KeyError: a format of weights or of the KV cache whose size is not known.
    """
    gguf = support(case.engine).weights == "gguf"
    room = context_tokens or context_of(case)
    models = [(architecture, stored, case.quantization)]
    if draft:
        models.append((draft, draft_stored, case.quantization if gguf else case.dtype))
    weights = sum(_weights_bytes(case, *model) for model in models)
    cached = sum(_gguf_cache(case, one, room) if gguf else _cache(case, one) for one, _, _ in models)
    active = _gguf_activations(case, architecture, room) if gguf else _activations(case, architecture)
    runtime = _runtime(case, architecture)
    if gguf and case.device == "cpu":
        runtime += sum(one.repacked_bytes for _, one, _ in models if one)
    return MemoryEstimate(
        weights_bytes=weights,
        kv_cache_bytes=cached,
        activation_bytes=active,
        runtime_bytes=runtime,
        available_bytes=available_bytes,
    )


def unfit(planned: PlannedCase) -> str | None:
    """Why a case is left out where those that do not fit are; `None` where it fits, or nobody knows."""
    expected = planned.estimate
    if expected is None or expected.fits is not False:
        return None
    total, free = quantity(expected.total_bytes, "B"), quantity(expected.available_bytes, "B")
    return f"estimated {total}, {free} are free: leave --skip-unfit out to try it."


def tokens_of(case: Case) -> int:
    """Tokens that one sequence has at its end."""
    return (case.depth + (case.prompt_tokens or PROMPT_TOKENS) + case.output_tokens) * case.turns


def _weights_bytes(case: Case, architecture: Architecture, stored: Stored | None, level: str) -> int:
    if stored:
        return stored.weights_bytes
    takes_head = level == "dynamic-int8"
    return architecture.weights_bytes(level, case.dtype, quantized_head=takes_head)


def _cache(case: Case, architecture: Architecture) -> int:
    """Of transformers: layers with a sliding window keep the window, in any kind of cache, and in few bits only the others."""
    if case.kv_cache == "off" or case.training:
        return 0
    usual = NUMBER_BYTES[case.dtype]
    number = usual if case.kv_cache != "quantized" else KV_BYTES[case.kv_dtype or "int4"]
    if case.kv_cache == "offloaded":  # two layers at a time are on the device
        return architecture.kv_cache_bytes(tokens_of(case), case.batch, usual) * 2 // max(1, len(architecture.layers))
    return architecture.kv_cache_bytes(tokens_of(case), case.batch, number, windowed_bytes=usual)


def _gguf_cache(case: Case, architecture: Architecture, room: int) -> int:
    number = KV_BYTES[case.kv_dtype] if case.kv_dtype else GGUF_KV_BYTES
    return architecture.kv_cache_bytes(room, case.slots or 1, number, beyond=UBATCH_TOKENS)


def _activations(case: Case, architecture: Architecture) -> int:
    """Of transformers, while it computes the prompt: the widest layer, the logits of the last token, and what the KV cache holds of
    the prompt before layers with a sliding window forget."""
    if case.training:
        return _training(case.training, architecture, NUMBER_BYTES[case.dtype])
    number, prompt = NUMBER_BYTES[case.dtype], case.prompt_tokens or PROMPT_TOKENS
    at_once = tokens_of(case) if case.kv_cache == "off" else max(prompt, min(case.depth, FILL_TOKENS))
    found = case.batch * at_once * architecture.token_numbers() * number
    found += case.batch * architecture.vocabulary * (number + 8)
    if case.attention in ("eager", "sdpa-math"):  # scores, and their softmax
        heads = max(layer.heads for layer in architecture.layers)
        found += 2 * case.batch * heads * at_once * tokens_of(case) * number
    if case.kv_cache in (None, "dynamic"):
        whole = architecture.kv_bytes_of_all(at_once, case.batch, number)
        found += max(0, whole - architecture.kv_cache_bytes(at_once, case.batch, number))
    return found


def _gguf_activations(case: Case, architecture: Architecture, room: int) -> int:
    """Of llama.cpp: the buffer of one micro-batch, which layers share, a mask of 16 bits for each of its tokens, and the logits."""
    longest_window = max((layer.window or 0 for layer in architecture.layers), default=0)
    masks = room + (min(room, longest_window + UBATCH_TOKENS) if longest_window else 0)
    return UBATCH_TOKENS * (2 * architecture.token_numbers() + 2 * masks) + 4 * (case.slots or 1) * architecture.vocabulary


def _training(training: Training, architecture: Architecture, number: int) -> int:
    """Adapters in 32-bit floats with gradients and both of Adam's moments; one state per layer where activations are computed anew,
    all of them otherwise; the logits of all tokens."""
    tokens, layers = training.batch * training.sequence_tokens, len(architecture.layers)
    adapters = 4 * 4 * architecture.lora_numbers(training.rank)
    layer = 2 * tokens * architecture.token_numbers() * number
    kept = tokens * architecture.hidden * layers * number if training.checkpointing else layer * (layers - 1)
    return adapters + layer + kept + LOGIT_COPIES * 4 * tokens * architecture.vocabulary


def _runtime(case: Case, architecture: Architecture) -> int:
    if case.device == "cuda":
        return CUDA_RUNTIME_BYTES * case.tensor_parallel
    libraries, per_token = CPU_RUNTIME[support(case.engine).weights]
    tokenizer = 0 if case.has_random_weights else per_token * architecture.vocabulary
    return libraries * case.tensor_parallel + tokenizer + _left_behind(case, architecture)


def _left_behind(case: Case, architecture: Architecture) -> int:
    """On a CPU, beside the weights of a level that is made in memory; random ones are made layer by layer, which leaves nothing."""
    if case.quantization not in LEFT_BY_LOADERS or case.has_random_weights:
        return 0
    return architecture.linear_numbers * NUMBER_BYTES[case.dtype]
