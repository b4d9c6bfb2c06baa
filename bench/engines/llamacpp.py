"""llama.cpp three ways: in process and as a server of ours, both from the xllamacpp wheel, and as a `llama-server` on the path.

All three load a GGUF file, as it is stored or quantized anew, and compute in fp32. They are ready after llama.cpp's own empty warm-up run, which
belongs to `load_s`. The prompt cache is off unless the case is about it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec

from bench.engines import llamacpp_listener
from bench.engines.llamacpp_depth import DeepSession
from bench.engines.llamacpp_listener import ALL_LAYERS, Settings, make_server
from bench.engines.llamacpp_session import GgufCodec, LlamaCppSession, model_facts
from bench.engines.openai import OpenAIWire
from bench.engines.presets import PRESETS
from bench.engines.protocol import Source, Support, UnsupportedError
from bench.engines.served import HttpSession
from bench.engines.server_process import HOST, ServerProcess, free_port
from bench.gguf_header import GgufHeader, read_header
from bench.gguf_types import LEVELS
from results.cases import Case
from results.errors import UsageError
from results.record import Scalar

WHEEL = "xllamacpp"
QUANTIZATIONS = ("as stored", *LEVELS)
SWITCHES = frozenset({"sampling", "depth", "attention", "kv_dtype", "draft", "tensor_parallel", "prompt_cache"})
KV_TYPES = {"fp32": "f32", "fp16": "f16"} | {name: name for name in ("bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")}
"""Formats of the KV cache and llama.cpp's names of them."""
QUANTIZED_KV = frozenset(KV_TYPES) - {"fp32", "fp16", "bf16"}
HEADERS = {"Connection": "close"}
"""llama.cpp ends the connection after each streamed answer, though it says `Keep-Alive`. Told so, no request is ever sent into
one that is about to end, only to be sent again; a connection for each request there is anyway, and it is no part of its times."""


class LlamaCpp:
    """In process."""

    support = Support(
        weights="gguf", packages=(WHEEL,), extra="llamacpp", devices=("cpu", "cuda"), quantizations=QUANTIZATIONS,
        log_probabilities=True, switches=SWITCHES,
    )  # fmt: skip

    def __init__(self) -> None:
        import xllamacpp

        self._devices = xllamacpp.get_device_info

    def refuse(self, case: Case) -> str | None:
        if case.load or (case.slots or 1) > 1:
            return "llamacpp answers one request at a time: choose the engine llamacpp-server."
        return refusal(case) or no_cuda(case, lambda: repr(self._devices()))

    def load(self, source: Source, case: Case) -> LlamaCppSession:
        header, settings = prepare(source, case)
        return LlamaCppSession(make_server(settings), header, log_probabilities=case.log_probabilities)


class LlamaCppServer:
    """The same library as a child process that listens; this process does not import it."""

    support = Support(
        weights="gguf", packages=(WHEEL,), extra="llamacpp", devices=("cpu", "cuda"), quantizations=QUANTIZATIONS,
        log_probabilities=True, switches=SWITCHES, concurrent=True, starts_server=True,
    )  # fmt: skip

    def __init__(self) -> None:
        if find_spec(WHEEL) is None:
            raise ImportError(f"No module named {WHEEL!r}")

    def refuse(self, case: Case) -> str | None:
        listed = f"import {WHEEL}; print({WHEEL}.get_device_info())"
        return refusal(case) or no_cuda(case, lambda: _output(sys.executable, "-P", "-c", listed))

    def load(self, source: Source, case: Case) -> HttpSession:
        header, settings = prepare(source, case, free_port())
        command = [sys.executable, "-P", llamacpp_listener.__file__, json.dumps(asdict(settings))]
        return connect(ServerProcess(command, settings.port), header, source, case)


class LlamaServer:
    """A `llama-server` program, of whatever build is installed.

    Args:
        program: its path; `None`: the one on the path.
    """

    support = Support(
        weights="gguf", packages=(), extra=None, devices=("cpu", "cuda"), quantizations=QUANTIZATIONS,
        log_probabilities=True, switches=SWITCHES, concurrent=True, starts_server=True, program="llama-server",
    )  # fmt: skip

    def __init__(self, program: str | None = None) -> None:
        self._program = program or shutil.which("llama-server") or ""

    def refuse(self, case: Case) -> str | None:
        if not self._program:
            return "there is no llama-server on the PATH: install llama.cpp, or choose the engine llamacpp-server."
        return refusal(case) or no_cuda(case, lambda: _output(self._program, "--list-devices"))

    @staticmethod
    def facts(source: Source) -> dict[str, Scalar]:
        """The program's own account of its version."""
        program = shutil.which("llama-server")
        told = _output(program, "--version").splitlines() if program else []
        return {"llama-server": next((line.removeprefix("version:").strip() for line in told if "version" in line), None)}

    def load(self, source: Source, case: Case) -> HttpSession:
        header, settings = prepare(source, case, free_port())
        known = _output(self._program, "--help") if settings.draft else ""
        server = ServerProcess([self._program, *flags(settings, known)], settings.port, variables(settings))
        return connect(server, header, source, case)


def refusal(case: Case) -> str | None:
    """Why no llama.cpp can run a case."""
    if case.quantization != case.source_precision and case.quantization not in LEVELS:
        return (
            f"llama.cpp takes no {case.quantization} that is made here: leave quantization out for the weights as their file has "
            f"them, or choose one of {', '.join(LEVELS)}."
        )
    if case.dtype != "fp32":
        return "llama.cpp computes in fp32, whatever its weights are: leave dtype out, or set it to fp32."
    if case.attention not in (None, "on", "off"):
        return (
            f"llama.cpp has no attention kernel {case.attention}: choose on or off, of flash attention, or leave attention out."
        )
    if case.kv_dtype and case.kv_dtype not in KV_TYPES:
        return f"llama.cpp has no KV cache in {case.kv_dtype}: choose one of {', '.join(KV_TYPES)}."
    if case.kv_dtype in QUANTIZED_KV and case.attention == "off":
        return f"llama.cpp quantizes V with flash attention only: set attention to on, or kv_dtype to fp16, not {case.kv_dtype}."
    if case.depth and case.load:
        return "depth fills the KV cache before one request at a time: leave the load out, or depth."
    if case.tensor_parallel > 1 and case.device != "cuda":
        return "llama.cpp splits layers over CUDA devices only: leave tensor_parallel out, or choose device cuda."
    return None


def no_cuda(case: Case, devices: Callable[[], str]) -> str | None:
    """Why a build with these devices, as it lists them, cannot run a case on CUDA."""
    if case.device != "cuda":
        return None
    found = len(set(re.findall(r"CUDA\d+", devices())))
    if not found:
        return "this build of llama.cpp finds no CUDA device: install a build with CUDA, or choose device cpu."
    if found < case.tensor_parallel:
        return f"there are {found} CUDA devices here: set tensor_parallel to that or less, not {case.tensor_parallel}."
    return None


def prepare(source: Source, case: Case, port: int = 0) -> tuple[GgufHeader, Settings]:
    """What the file says of itself, its weights those of the model that drafts too, and what its server is started with.

    Raises:
        UsageError: there is no such GGUF file.
        UnsupportedError: its weights are in another format than the case's.
    """
    if source.weights is None:
        raise UsageError("The engine needs the weights as a GGUF file: name one as model.")
    header = read_header(source.weights)
    if header.stored != case.quantization:
        raise UnsupportedError(f"the file's weights are {header.stored}, not {case.quantization}: leave quantization out.")
    if source.draft:
        header = replace(header, weights_bytes=header.weights_bytes + read_header(source.draft).weights_bytes)
    settings = Settings(
        model=str(source.weights), device=case.device, threads=case.threads, slots=case.slots or 1,
        context_tokens=source.context_tokens, prompt_cache=case.prompt_cache, port=port, attention=case.attention,
        kv_type=KV_TYPES[case.kv_dtype] if case.kv_dtype else None, draft=str(source.draft) if source.draft else None,
        draft_tokens=case.draft_tokens or 0, gpus=case.tensor_parallel,
    )  # fmt: skip
    return header, settings


def connect(server: ServerProcess, header: GgufHeader, source: Source, case: Case) -> HttpSession:
    """The session with a server of ours that has just become ready."""
    try:
        wire = OpenAIWire(
            f"{server.root_url}/v1", source.model, PRESETS["llama-server"], HEADERS, prompt_cache=case.prompt_cache,
            log_probabilities=case.log_probabilities,
        )  # fmt: skip
        codec, facts = GgufCodec(server.root_url, header), model_facts(server.root_url, header)
        return DeepSession(wire, codec, request_timeout_s=source.request_timeout_s, server=server, facts=facts)
    except BaseException:
        server.close()
        raise


def flags(settings: Settings, known: str = "") -> list[str]:
    """Arguments of `llama-server`: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.

    Args:
        known: the program's own account of them, which tells older builds from newer ones.
    """
    threads = [] if settings.threads is None else ["--threads", str(settings.threads), "--threads-batch", str(settings.threads)]
    device = ["--device", "none"] if settings.device == "cpu" else ["--n-gpu-layers", str(ALL_LAYERS)]
    return [
        "--model", settings.model, "--host", HOST, "--port", str(settings.port), "--parallel", str(settings.slots),
        "--ctx-size", str(settings.slots * settings.context_tokens), "--no-webui", *threads, *device, *_switches(settings, known),
    ]  # fmt: skip


def _switches(settings: Settings, known: str) -> Iterator[str]:
    if settings.attention:
        yield from ("--flash-attn", settings.attention)
    if settings.kv_type:
        yield from ("--cache-type-k", settings.kv_type, "--cache-type-v", settings.kv_type)
    if settings.gpus > 1:
        yield from ("--split-mode", "row", "--tensor-split", ",".join(["1"] * settings.gpus))
    if settings.draft:
        yield from ("--model-draft", settings.draft)
        if "--spec-type" in known:
            yield from ("--spec-type", "draft-simple")
        yield from ("--spec-draft-n-max" if "--spec-draft-n-max" in known else "--draft-max", str(settings.draft_tokens))
        yield from ("--n-gpu-layers-draft", "0" if settings.device == "cpu" else str(ALL_LAYERS))


def variables(settings: Settings) -> dict[str, str]:
    """Environment of `llama-server`: what not every build has an argument for, as an unknown one would end it where an unknown
    variable is ignored. Variables of the user's with other settings are left out."""
    ours = {"LLAMA_ARG_FIT": "off", "LLAMA_ARG_KV_UNIFIED": "off", "LLAMA_ARG_OFFLINE": "on"}
    if not settings.prompt_cache:
        ours |= {"LLAMA_ARG_CACHE_PROMPT": "off", "LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_CTX_CHECKPOINTS": "0"}
    return {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")} | ours


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        return done.stdout
    except (OSError, subprocess.SubprocessError):
        return ""
