"""llama.cpp's own HTTP server from the xllamacpp wheel: the child process of the engine `llamacpp-server`.

Run by its path and importing nothing of ours, so that the memory of its process is the server's alone. It ends when its standard
input closes.
"""

import json
import os
import sys
import threading
from dataclasses import dataclass
from typing import Any

ALL_LAYERS = 999
"""More than any model has."""


@dataclass(frozen=True)
class Settings:
    """What a llama.cpp server is started with; what is not said here is as llama.cpp has it."""

    model: str
    """Path of a GGUF file."""
    device: str
    """`cpu`, or `cuda` for all layers."""
    threads: int | None
    """`None`: as llama.cpp chooses."""
    slots: int
    """Sequences that are decoded at a time."""
    context_tokens: int
    """Room in each slot."""
    prompt_cache: bool
    port: int = 0
    """0: a free one."""
    attention: str | None = None
    """Flash attention, `on` or `off`; `None`: as llama.cpp chooses."""
    kv_type: str | None = None
    """Of K and V, such as `q8_0`; `None`: as llama.cpp has it, `f16`."""
    draft: str | None = None
    """Path of the GGUF file of a model that drafts."""
    draft_tokens: int = 0
    gpus: int = 1
    """That each layer is split over."""


def make_server(settings: Settings) -> Any:
    """An `xllamacpp.Server`, loaded, warmed up by llama.cpp's own empty run, and listening on loopback.

    Raises:
        RuntimeError: the model cannot be loaded; the reason is on standard error.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    listen_on_loopback(params)
    params.port = settings.port
    params.n_parallel = settings.slots
    params.n_ctx = settings.slots * settings.context_tokens
    params.kv_unified = False
    params.fit_params = False  # would shrink the context to the memory at hand
    params.ui = False
    if settings.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.n_gpu_layers = 0 if settings.device == "cpu" else ALL_LAYERS
    params.no_kv_offload = params.no_op_offload = settings.device == "cpu"
    _take_switches(xllamacpp, params, settings)
    params.cache_prompt = settings.prompt_cache
    if not settings.prompt_cache:
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
        params.n_ctx_checkpoints = 0
    return xllamacpp.Server(params)


def listen_on_loopback(params: Any) -> None:
    if hasattr(params, "hostnames"):
        params.hostnames = ["127.0.0.1"]
    else:  # before 2026.10
        params.hostname = "127.0.0.1"


def _take_switches(xllamacpp: Any, params: Any, settings: Settings) -> None:
    if settings.attention:
        name = {"on": "ENABLED", "off": "DISABLED"}[settings.attention]
        params.flash_attn_type = xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{name}"]
    if settings.kv_type:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type[f"GGML_TYPE_{settings.kv_type.upper()}"]
    if settings.draft:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = params.speculative.draft
        draft.mparams.path, draft.n_max, draft.n_gpu_layers = settings.draft, settings.draft_tokens, params.n_gpu_layers
        if settings.threads is not None:
            draft.cpuparams.n_threads = draft.cpuparams_batch.n_threads = settings.threads
    if settings.gpus > 1:
        params.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_ROW
        params.tensor_split = [1.0] * settings.gpus + [0.0] * (len(params.tensor_split) - settings.gpus)


def main() -> None:
    parent = threading.Thread(target=_end_with_parent, daemon=True)
    parent.start()
    _server = make_server(Settings(**json.loads(sys.argv[1])))
    parent.join()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
