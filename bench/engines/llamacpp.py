"""llama.cpp three ways: in process and as a server of ours, both from the xllamacpp wheel, and as a `llama-server` on the path.

All three load the GGUF file as it is stored and compute in fp32. They are ready after llama.cpp's own empty warm-up run, which
belongs to `load_s`. The prompt cache is off unless the case is about it.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec

from bench.engines import llamacpp_listener
from bench.engines.llamacpp_listener import ALL_LAYERS, Settings, make_server
from bench.engines.llamacpp_session import GgufCodec, LlamaCppSession, model_facts
from bench.engines.openai import OpenAIWire
from bench.engines.presets import PRESETS
from bench.engines.protocol import Source, Support, UnsupportedError
from bench.engines.served import HttpSession
from bench.engines.server_process import HOST, ServerProcess, free_port
from bench.gguf_header import GgufHeader, read_header
from results.cases import Case
from results.errors import UsageError
from results.record import Scalar

WHEEL = "xllamacpp"
HEADERS = {"Connection": "close"}
"""llama.cpp ends the connection after each streamed answer, though it says `Keep-Alive`. Told so, no request is ever sent into
one that is about to end, only to be sent again; a connection for each request there is anyway, and it is no part of its times."""


class LlamaCpp:
    """In process."""

    support = Support(
        weights="gguf", packages=(WHEEL,), extra="llamacpp", devices=("cpu", "cuda"), quantizations=("as stored",),
        log_probabilities=True,
    )  # fmt: skip

    def __init__(self) -> None:
        import xllamacpp

        self._devices = xllamacpp.get_device_info

    def refuse(self, case: Case) -> str | None:
        if case.load or (case.slots or 1) > 1:
            return "llamacpp answers one request at a time: choose the engine llamacpp-server."
        return refusal(case) or (no_cuda(repr(self._devices())) if case.device == "cuda" else None)

    def load(self, source: Source, case: Case) -> LlamaCppSession:
        header, settings = prepare(source, case)
        return LlamaCppSession(make_server(settings), header, log_probabilities=case.log_probabilities)


class LlamaCppServer:
    """The same library as a child process that listens; this process does not import it."""

    support = Support(
        weights="gguf", packages=(WHEEL,), extra="llamacpp", devices=("cpu", "cuda"), quantizations=("as stored",),
        log_probabilities=True, concurrent=True, starts_server=True,
    )  # fmt: skip

    def __init__(self) -> None:
        if find_spec(WHEEL) is None:
            raise ImportError(f"No module named {WHEEL!r}")

    def refuse(self, case: Case) -> str | None:
        listed = f"import {WHEEL}; print({WHEEL}.get_device_info())"
        return refusal(case) or (no_cuda(_output(sys.executable, "-P", "-c", listed)) if case.device == "cuda" else None)

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
        weights="gguf", packages=(), extra=None, devices=("cpu", "cuda"), quantizations=("as stored",),
        log_probabilities=True, concurrent=True, starts_server=True, program="llama-server",
    )  # fmt: skip

    def __init__(self, program: str | None = None) -> None:
        self._program = program or shutil.which("llama-server") or ""

    def refuse(self, case: Case) -> str | None:
        if not self._program:
            return "there is no llama-server on the PATH: install llama.cpp, or choose the engine llamacpp-server."
        return refusal(case) or (no_cuda(_output(self._program, "--list-devices")) if case.device == "cuda" else None)

    @staticmethod
    def facts(source: Source) -> dict[str, Scalar]:
        """The program's own account of its version."""
        program = shutil.which("llama-server")
        told = _output(program, "--version").splitlines() if program else []
        return {"llama-server": next((line.removeprefix("version:").strip() for line in told if "version" in line), None)}

    def load(self, source: Source, case: Case) -> HttpSession:
        header, settings = prepare(source, case, free_port())
        server = ServerProcess([self._program, *flags(settings)], settings.port, variables(settings))
        return connect(server, header, source, case)


def refusal(case: Case) -> str | None:
    """Why no llama.cpp can run a case."""
    if case.source_precision not in (None, case.quantization):
        return (
            f"llama.cpp computes with the weights as their file has them, {case.source_precision}: "
            f"leave quantization out, or choose the engine transformers."
        )
    if case.dtype != "fp32":
        return "llama.cpp computes in fp32, whatever its weights are: leave dtype out, or set it to fp32."
    return None


def no_cuda(devices: str) -> str | None:
    """Why a build with these devices, as it lists them, cannot run on CUDA."""
    if "CUDA" in devices:
        return None
    return "this build of llama.cpp finds no CUDA device: install a build with CUDA, or choose device cpu."


def prepare(source: Source, case: Case, port: int = 0) -> tuple[GgufHeader, Settings]:
    """What the file says of itself, and what its server is started with.

    Raises:
        UsageError: there is no such GGUF file.
        UnsupportedError: its weights are in another format than the case's.
    """
    if source.weights is None:
        raise UsageError("The engine needs the weights as a GGUF file: name one as model.")
    header = read_header(source.weights)
    if header.stored != case.quantization:
        raise UnsupportedError(f"the file's weights are {header.stored}, not {case.quantization}: leave quantization out.")
    weights, slots = str(source.weights), case.slots or 1
    return header, Settings(weights, case.device, case.threads, slots, source.context_tokens, case.prompt_cache, port)


def connect(server: ServerProcess, header: GgufHeader, source: Source, case: Case) -> HttpSession:
    """The session with a server of ours that has just become ready."""
    try:
        wire = OpenAIWire(
            f"{server.root_url}/v1", source.model, PRESETS["llama-server"], HEADERS, prompt_cache=case.prompt_cache,
            log_probabilities=case.log_probabilities,
        )  # fmt: skip
        codec, facts = GgufCodec(server.root_url, header), model_facts(server.root_url, header)
        return HttpSession(wire, codec, request_timeout_s=source.request_timeout_s, server=server, facts=facts)
    except BaseException:
        server.close()
        raise


def flags(settings: Settings) -> list[str]:
    """Arguments of `llama-server`: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md."""
    threads = [] if settings.threads is None else ["--threads", str(settings.threads), "--threads-batch", str(settings.threads)]
    device = ["--device", "none"] if settings.device == "cpu" else ["--n-gpu-layers", str(ALL_LAYERS)]
    return [
        "--model", settings.model, "--host", HOST, "--port", str(settings.port), "--parallel", str(settings.slots),
        "--ctx-size", str(settings.slots * settings.context_tokens), "--no-webui", *threads, *device,
    ]  # fmt: skip


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
