"""A stand-in for Ollama: its documented API over loopback, with tokens that are known beforehand instead of a model.

`test_ollama_engine.py` drives it with Ollama's own client first, so that it is like the real one where it matters.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

WORDS = ("The", " sky", " is", " blue", ",", " größer", " 🙂", " and", " wide", ".")
CONTEXT_LENGTH = 32768
LAYERS = {"model": 5000, "license": 40}
"""Bytes of the layers of each model that can be pulled."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TYPES = {"num_predict": int, "num_ctx": int, "num_thread": int, "seed": int, "temperature": (int, float), "stop": list}


def log_probability(number: int) -> float:
    """Of each token, by its place."""
    return -0.25 * (number % 3)


class RefusedError(Exception):
    """An answer with this status and `{"error": …}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OllamaStandin:
    """Listens on a free port of the loopback interface while it is entered.

    Args:
        installed, library: models that it has, and those that it could pull.
        eos_after: tokens after which the model ends by itself.
        pace_s: between two tokens.
        words: the tokens that it says, over and over.
        count: tokens of a prompt.
        fail_after: tokens after which the stream breaks off with an error.
        forgetful: it drops a stream without its last object, as Ollama does when one token comes over thirty times in a row.
    """

    def __init__(
        self, installed: tuple[str, ...] = ("gemma3:270m",), library: tuple[str, ...] = ("gemma3:1b",), *, eos_after: int | None = None,
        pace_s: float = 0.0, fail_after: int | None = None, forgetful: bool = False, thinks: bool = False, load_s: float = 0.0,
        words: tuple[str, ...] = WORDS, count: Callable[[str], int] = lambda text: len(text.split()) + 1, version: str = "0.12.11",
    ) -> None:  # fmt: skip
        self.installed, self.library = list(installed), list(library)
        self.eos_after, self.pace_s, self.fail_after, self.forgetful, self.thinks = (
            eos_after,
            pace_s,
            fail_after,
            forgetful,
            thinks,
        )
        self.load_s, self.words, self.count, self.version = load_s, words, count, version
        self.loaded: dict[str, tuple[datetime, dict[str, Any]]] = {}
        """Name → (until when, options that it was loaded with)."""
        self.loads = 0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """(path, body) of every request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"ollama": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        """What an endpoint answers: a JSON value, or an iterator of the objects of a stream."""
        self.asked.append((path, body))
        endpoints: dict[str, Any] = {
            "/api/version": lambda _: {"version": self.version},
            "/api/tags": lambda _: {"models": [self._listed(name) for name in self.installed]},
            "/api/ps": lambda _: {"models": self._running()},
            "/api/show": self._show,
            "/api/pull": self._pull,
            "/api/generate": self._generate,
            "/api/chat": self._chat,
        }
        if path not in endpoints:
            raise RefusedError(404, "404 page not found")
        return endpoints[path](body)

    def _name(self, body: dict[str, Any]) -> str:
        model = str(body.get("model", ""))
        name = model if ":" in model else f"{model}:latest"
        if name not in self.installed:
            raise RefusedError(404, f"model '{model}' not found")
        return name

    def _listed(self, name: str) -> dict[str, Any]:
        return {
            "name": name, "model": name, "modified_at": "2025-05-10T08:06:48.639712648-07:00", "size": sum(LAYERS.values()),
            "digest": hashlib.sha256(name.encode()).hexdigest(), "details": self._details(),
        }  # fmt: skip

    def _details(self) -> dict[str, Any]:
        return {
            "parent_model": "", "format": "gguf", "family": "gemma3", "families": ["gemma3"], "parameter_size": "268.10M",
            "quantization_level": "Q8_0",
        }  # fmt: skip

    def _running(self) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        self.loaded = {name: state for name, state in self.loaded.items() if state[0] > now}
        return [
            self._listed(name) | {"expires_at": until.isoformat(), "size_vram": 0, "context_length": options.get("num_ctx", 4096)}
            for name, (until, options) in self.loaded.items()
        ]

    def _show(self, body: dict[str, Any]) -> dict[str, Any]:
        self._name(body)
        return {
            "modelfile": "# Modelfile generated by \"ollama show\"\nFROM gemma3\n", "parameters": 'stop    "<end_of_turn>"',
            "template": "{{ .Prompt }}", "details": self._details(), "modified_at": "2025-05-10T08:06:48.639712648-07:00",
            "model_info": {
                "general.architecture": "gemma3", "general.parameter_count": 268098176, "gemma3.context_length": CONTEXT_LENGTH,
            },
            "capabilities": ["completion", "thinking"] if self.thinks else ["completion"],
        }  # fmt: skip

    def _pull(self, body: dict[str, Any]) -> Any:
        steps = self._pulling(str(body.get("model") or body.get("name", "")))
        return steps if body.get("stream", True) else list(steps)[-1]

    def _pulling(self, name: str) -> Iterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        if name not in self.library:
            yield {"error": "pull model manifest: file does not exist"}
            return
        for layer, size in LAYERS.items():
            digest = "sha256:" + hashlib.sha256(layer.encode()).hexdigest()
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size}
            for done in (size // 2, size):
                yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": done}
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        self.installed.append(name)
        yield {"status": "success"}

    def _generate(self, body: dict[str, Any]) -> Any:
        name = self._name(body)
        if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
            raise RefusedError(400, "raw mode does not support template, system, or context")
        if not body.get("prompt"):
            return self._load_only(name, body, {"response": ""})
        template = "" if body.get("raw") else "user: "
        return self._answered(name, body, template + body["prompt"], lambda text: {"response": text})

    def _chat(self, body: dict[str, Any]) -> Any:
        name = self._name(body)
        messages = body.get("messages") or []
        if not messages:
            return self._load_only(name, body, {"message": {"role": "assistant", "content": ""}})
        prompt = " ".join(f"{one['role']}: {one['content']}" for one in messages)
        return self._answered(name, body, prompt, lambda text: {"message": {"role": "assistant", "content": text}})

    def _load_only(self, name: str, body: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
        reason = "unload" if "keep_alive" in body and _seconds(body["keep_alive"]) == 0 else "load"
        if reason == "unload":
            self.loaded.pop(name, None)
        else:
            self._load(name, body)
        return {"model": body["model"], "created_at": _now(), **empty, "done": True, "done_reason": reason}

    def _load(self, name: str, body: dict[str, Any]) -> int:
        """Load it, again when the options are others; the nanoseconds that it took."""
        began = time.perf_counter_ns()
        options = body.get("options") or {}
        for key, value in options.items():
            if key not in TYPES or not isinstance(value, TYPES[key]):  # type: ignore[arg-type]
                raise RefusedError(400, f'option "{key}" is invalid')
        wanted = {key: options[key] for key in ("num_ctx", "num_thread") if key in options}
        if name not in self.loaded or self.loaded[name][1] != wanted:
            self.loads += 1
            time.sleep(self.load_s)
        self.loaded[name] = (datetime.now(UTC) + timedelta(seconds=_seconds(body.get("keep_alive", "5m"))), wanted)
        return time.perf_counter_ns() - began

    def _answered(self, name: str, body: dict[str, Any], prompt: str, wrap: Any) -> Any:
        if body.get("think") and not self.thinks:
            raise RefusedError(400, f'"{body["model"]}" does not support thinking')
        began = time.perf_counter_ns()
        load_ns = self._load(name, body)
        prompt_tokens = self.count(prompt)
        room = self.loaded[name][1].get("num_ctx", 4096)
        if prompt_tokens >= room and not body.get("truncate", True):
            raise RefusedError(400, "the input length exceeds the context length")
        objects = self._objects(body, min(prompt_tokens, room - 1), wrap, began, load_ns)
        if body.get("stream", True):
            return objects
        whole = list(objects)
        if "error" in whole[-1]:
            raise RefusedError(500, whole[-1]["error"])
        text = "".join(one.get("response") or one.get("message", {}).get("content", "") for one in whole)
        told = [each for one in whole for each in one.get("logprobs", ())]
        return whole[-1] | wrap(text) | ({"logprobs": told} if told else {})

    def _objects(self, body: dict[str, Any], prompt_tokens: int, wrap: Any, began: int, load_ns: int) -> Iterator[dict[str, Any]]:
        limit = (body.get("options") or {}).get("num_predict", -1)
        ends = self.eos_after if self.eos_after is not None else 10**9 if limit >= 0 else len(self.words)
        count = ends if limit < 0 else min(ends, limit)
        prefilled = time.perf_counter_ns()
        for number in range(count):
            time.sleep(self.pace_s)
            if number == self.fail_after:
                yield {"error": "an error was encountered while running the model"}
                return
            word = self.words[number % len(self.words)]
            told = {"logprobs": [{"token": word, "logprob": log_probability(number), "bytes": [*word.encode()]}]}
            asked = told if body.get("logprobs") else {}
            yield {"model": body["model"], "created_at": _now(), **wrap(word), "done": False, **asked}
        if self.forgetful:
            return
        now = time.perf_counter_ns()
        context = {} if body.get("raw") or "messages" in body else {"context": [1, 2, 3]}
        yield {
            "model": body["model"], "created_at": _now(), **wrap(""), "done": True,
            "done_reason": "length" if count < ends else "stop", **context, "total_duration": now - began, "load_duration": load_ns,
            "prompt_eval_count": prompt_tokens, "prompt_eval_duration": prefilled - began - load_ns, "eval_count": count,
            "eval_duration": now - prefilled,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    ollama: OllamaStandin

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data)
        except ValueError as error:
            self._json(400, {"error": "missing request body" if not data else str(error)})
            return
        self._serve(body)

    def _serve(self, body: dict[str, Any]) -> None:
        try:
            answer = self.ollama.answer(self.path, body)
        except RefusedError as refused:
            self._json(refused.status, {"error": str(refused)})
            return
        if isinstance(answer, dict):
            self._json(200, answer)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for one in answer:
            line = json.dumps(one, ensure_ascii=False).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _seconds(keep_alive: float | str) -> float:
    """A number of seconds or a duration such as `10m`; negative means for ever."""
    if isinstance(keep_alive, str):
        unit = next((unit for unit in UNITS if keep_alive.removesuffix(unit).lstrip("-").isdigit()), "")
        keep_alive = float(keep_alive.removesuffix(unit)) * UNITS.get(unit, 1.0)
    return keep_alive if keep_alive >= 0 else 1e9
