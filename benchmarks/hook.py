"""What the timing hook costs: `generate` with the engine's hook against a bare `generate` of the same length, in one run.

    python benchmarks/hook.py [FOLDER] [--dtype fp32] [--tokens 32] [--pairs 15]

FOLDER is a model in Hugging Face format; without one the prepared Gemma 3 270M is used. The two take turns, and the order
of each pair is random. The goal is a median ratio below 1.01. Two figures are printed: the ratio of whole calls, which
holds the machine's noise too, and the hook's own time per step as a share of the measured step.
"""

import argparse
import random
import statistics
import time
from pathlib import Path

from bench.engines.protocol import Session, Source
from bench.engines.quantized import DTYPES
from bench.engines.transformers import Transformers
from bench.workloads import Prompt, load_prompts, speed_prompt
from results.cases import Case


def prepared_gemma() -> Path:
    from bench.weights import prepare, resolve

    return prepare(resolve("gemma-3-270m", "benchmark"), lambda *_: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = options.folder or prepared_gemma()
    case = case_of(options.dtype)
    session: Session = Transformers().load(Source(weights=folder), case)
    bare = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, DTYPES[options.dtype])).eval()
    prompt = speed_prompt(load_prompts("five-questions"), 0, "1.1", 32, "plain", session.encode, session.decode)

    def with_hook() -> float:
        start = time.perf_counter()
        session.generate(prompt, options.tokens, "length", time.perf_counter)
        return time.perf_counter() - start

    def without() -> float:
        config = GenerationConfig(max_new_tokens=options.tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
        start = time.perf_counter()
        with torch.inference_mode():
            ids = torch.tensor([prompt.token_ids])
            output = bare.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        session.decode(output[0, ids.shape[1] :].tolist())
        return time.perf_counter() - start

    with_hook(), without()
    ratios, steps = [], []
    for _ in range(options.pairs):
        pair = {}
        for one in random.sample([with_hook, without], 2):
            pair[one] = one()
        ratios.append(pair[with_hook] / pair[without])
        steps.append(pair[without] / options.tokens)
    quartiles = statistics.quantiles(ratios, n=4)
    own = hook_seconds(session, prompt)
    step = statistics.median(steps)
    print(
        f"generate with the hook / without: median {statistics.median(ratios):.4f}, quartiles {quartiles[0]:.4f} to {quartiles[2]:.4f}"
    )
    print(f"the hook itself: {own * 1e6:.2f} µs of a step of {step * 1e3:.2f} ms: {own / step:.4%}")


def hook_seconds(session: Session, prompt: Prompt, calls: int = 20_000) -> float:
    """Seconds that one call of the hook takes."""
    import torch

    from bench.engines.transformers_steps import Steps

    steps = Steps(torch, torch.device("cpu"), 1, time.perf_counter)
    ids = torch.tensor([prompt.token_ids])
    start = time.perf_counter()
    for _ in range(calls):
        steps(ids, None)
    return (time.perf_counter() - start) / calls


def case_of(dtype: str) -> Case:
    return Case(
        weights="sha256:0", engine="transformers", device="cpu", dtype=dtype, quantization=dtype, workload="p", output_tokens=1
    )


if __name__ == "__main__":
    main()
