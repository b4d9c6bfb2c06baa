"""What each level of quantization costs and gains on transformers: speed, bytes of weights, and loss on one text.

    python benchmarks/quantization.py [FOLDER] [--levels bf16 int8 nf4 …] [--tokens 32] [--threads 2] [--rounds 3]

FOLDER is a model in Hugging Face format; without one the prepared Gemma 3 270M is used. Each level has a process of its own, one at
a time; each round visits all levels in random order, and the ratio to fp32 is of the same round. Printed are the medians of tokens
per second (32 tokens of prompt) and of that ratio, the bytes of weights as Gemmeter counts them after the last token, what the
package's own `get_memory_footprint` says, and the loss. How busy the machine was beside it stands at the end.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.quantizations import FLOATS, LEVELS, dtype_of
from bench.workloads import load_prompts, speed_prompt
from results.cases import Case

MIB = 2**20
TEXT = (
    "The river rises in the hills to the north, runs for about sixty miles through farms and small towns, and reaches the sea "
    "beside an old harbour. In spring the water is high and brown; by the end of summer one can walk across it in many places. "
    "People have lived on its banks for at least four thousand years, and most of the bridges that they use today stand where "
    "older ones of wood stood before."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--levels", nargs="*", choices=(*FLOATS, *LEVELS), default=["bf16", *LEVELS])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder or prepared_gemma()
    if options.only:
        print(json.dumps(measured(folder, options.only, options.tokens, options.threads)))
        return
    levels = list(dict.fromkeys(["fp32", *options.levels]))
    found: dict[str, list[dict[str, float]]] = {level: [] for level in levels}
    start = time.perf_counter()
    for _ in range(options.rounds):
        for level in random.sample(levels, len(levels)):
            found[level].append(in_own_process(folder, level, options))
    print(f"{'level':22}{'tok/s':>8}{'/ fp32':>8}{'weights':>12}{'says itself':>13}{'loss':>8}")
    for level, rounds in found.items():
        speed = statistics.median(one["tps"] for one in rounds)
        ratio = statistics.median(one["tps"] / full["tps"] for one, full in zip(rounds, found["fp32"], strict=True))
        last = rounds[-1]
        sizes = f"{last['weights_bytes'] / MIB:8.2f} MiB{last['footprint'] / MIB:9.2f} MiB"
        print(f"{level:22}{speed:8.1f}{ratio:8.2f}{sizes}{last['loss']:8.3f}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores after {time.perf_counter() - start:.0f} s")


def in_own_process(folder: Path, level: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-P", __file__, folder, "--only", level, "--tokens", options.tokens, "--threads", options.threads]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode != 0:
        raise SystemExit(f"{level} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(folder: Path, level: str, tokens: int, threads: int) -> dict[str, float]:
    import torch

    from bench.engines.protocol import Source
    from bench.engines.transformers_model import load
    from bench.engines.transformers_session import TransformersSession

    torch.set_num_threads(threads)
    case = Case(
        weights="sha256:0", engine="transformers", device="cpu", dtype=dtype_of(level), quantization=level, threads=threads,
        workload="p", prompt_tokens=32, output_tokens=tokens,
    )  # fmt: skip
    model, tokenizer = load(Source(folder), case)
    footprint = model.get_memory_footprint()
    session = TransformersSession(model, tokenizer, case)
    session.begin(case)
    warm, asked = (
        speed_prompt(load_prompts("five-questions"), serial, "1.1", 32, "plain", session.encode, session.decode)
        for serial in (0, 1)
    )
    session.generate(warm, 4, "length", time.perf_counter)
    done = session.generate(asked, tokens, "length", time.perf_counter)
    tps = (len(done.event_times) - 1) / (done.event_times[-1] - done.event_times[0])
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss.item()
    return {"tps": tps, "loss": loss, "footprint": footprint, "weights_bytes": session.values()["weights_bytes"]}


def prepared_gemma() -> Path:
    from bench.weights import prepare, resolve

    return prepare(resolve("gemma-3-270m", "benchmark"), lambda *_: None)


if __name__ == "__main__":
    main()
