"""The child process that turns a GGUF file into a folder in Hugging Face format, once: `python -m bench.convert SOURCE TARGET`.

It prints its progress as JSON lines and ends when its standard input does, so that it never outlives who started it.
The target appears whole or not at all. Starting it and explaining how it ended is left to `bench.weights`.
"""

import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Self

from bench import preparing_child
from bench.preparing import Progress

MANIFEST = "manifest.json"


def is_whole(target: Path) -> bool:
    """Whether a conversion finished there and each of its files still has the size it had."""
    manifest = read_manifest(target)
    try:
        return manifest is not None and all((target / name).stat().st_size == size for name, size in manifest["files"].items())
    except OSError:
        return False


def read_manifest(target: Path) -> dict[str, Any] | None:
    """Source, tools and files of a finished conversion; `None` where there is none."""
    try:
        manifest = json.loads((target / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else None


def publish(target: Path, write: Callable[[Path], None], facts: dict[str, Any], progress: Progress) -> None:
    """Fill a folder beside `target` with `write`, add the manifest, and move it into place in one step.

    One process at a time does this for one target; the others wait and find it done. What a killed one left is removed.

    Raises:
        OSError: the cache is full or may not be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, progress):
        if is_whole(target):
            return
        for stale in [*target.parent.glob(f"{target.name}.partial-*"), target]:
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
        try:
            write(partial)
            sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(json.dumps(facts | {"files": sizes}, indent=1), "utf-8")
            for path in (*partial.iterdir(), partial):
                _sync(path)
            partial.rename(target)
            _sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _alone(target: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(target.parent / f"{target.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another run that converts the same weights", None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows syncs only what is open for writing
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def expand(source: Path, folder: Path, progress: Progress) -> None:
    """Read a GGUF file and save its tokenizer and its weights, expanded to 32-bit floats, as safetensors."""
    progress("loading transformers", None)
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    # transformers parses the file three times, ten seconds each with Gemma's vocabulary: once is enough.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    logging.set_tqdm_hook(lambda _factory, args, kwargs: _CountingBar(progress, *args, **kwargs))
    # Alone in a folder: what lies beside the file (an adapter, another configuration) must not be loaded with it.
    with tempfile.TemporaryDirectory() as alone:
        place(source.resolve(), Path(alone) / "model.gguf")
        progress("reading the tokenizer", None)
        AutoTokenizer.from_pretrained(alone, gguf_file="model.gguf").save_pretrained(folder)
        progress("expanding the weights", None)
        model = AutoModelForCausalLM.from_pretrained(
            alone, gguf_file="model.gguf", dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        complete(model.config)
        progress("writing the weights", None)
        model.save_pretrained(folder)


def place(
    source: Path, target: Path, ways: Sequence[Callable[[Path, Path], Any]] = (os.symlink, os.link, shutil.copyfile)
) -> None:
    """Make a file appear at `target` by the first way that works: Windows lets few users make symbolic links.

    Raises:
        OSError: none of them works.
    """
    for way in ways[:-1]:
        with contextlib.suppress(OSError):
            way(source, target)
            return
    ways[-1](source, target)


def complete(config: Any) -> None:
    """Set what transformers does not take from a Gemma GGUF file: larger ones scale attention and RoPE otherwise.

    As in llama.cpp, the number of layers tells the size.
    """
    size = (config.model_type, config.num_hidden_layers)
    if size in {("gemma3_text", 34), ("gemma3_text", 48), ("gemma3_text", 62)}:
        config.rope_parameters["full_attention"] |= {"rope_type": "linear", "factor": 8.0}
    if size in {("gemma3_text", 62), ("gemma2", 46)}:
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads


class _CountingBar:
    """Stands in for a progress bar of transformers: tells what it counts instead of drawing it."""

    def __init__(self, progress: Progress, iterable: Iterable[Any] = (), *, desc: str = "converting", **_: Any) -> None:
        self.progress, self.iterable, self.step = progress, iterable, desc.lower()

    def __iter__(self) -> Iterator[Any]:
        total = len(self.iterable) if isinstance(self.iterable, Sized) else None
        for number, item in enumerate(self.iterable, start=1):
            yield item
            self.progress(self.step, number / total if total else None)

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def _facts(source: Path, target: Path) -> dict[str, Any]:
    from importlib.metadata import version

    from bench.gguf_header import read_header

    return {
        "source": {"name": source.name, "sha256": target.name, "precision": read_header(source).precision},
        "tools": {tool: version(tool) for tool in ("gemmeter", "transformers", "torch", "gguf")},
    }


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    preparing_child.run(
        lambda progress: publish(target, lambda folder: expand(source, folder, progress), _facts(source, target), progress)
    )


if __name__ == "__main__":
    main()
