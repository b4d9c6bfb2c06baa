"""An engine for Gemmeter that repeats the prompt's tokens at a fixed pace: one token is one character."""

import time
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

from bench.engines.protocol import Clock, Generation, Source, Support, UnsupportedError
from bench.workloads import Prompt
from results.cases import Case, PromptFormat

PACE_S = 0.002


class Echo:
    support = Support(weights="folder", packages=("gemmeter-echo",), extra=None, devices=("cpu",), quantizations=("fp32",))

    def refuse(self, case: Case) -> str | None:
        if case.threads and case.threads > 1:
            return "echo computes on one thread: set threads to 1."
        return None

    def load(self, source: Source, case: Case) -> "EchoSession":
        return EchoSession()  # a real engine reads `source.weights` here


class EchoSession:
    timing = "perf_counter"

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "chat":
            raise UnsupportedError("echo has no chat template: set workload.prompt_format to plain.")
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(one) for one in ids)

    def recount(self, text: str) -> int:
        return len(text)

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        ids = prompt.token_ids or (ord(" "),)
        wanted = output_tokens if stop == "length" else min(output_tokens, len(ids))
        sent, times = clock(), []
        for _ in range(wanted):
            time.sleep(PACE_S)
            times.append(clock())
        return Generation(
            sent=sent,
            event_times=tuple(times),
            event_tokens=(1,) * wanted,
            prompt_tokens=len(prompt.token_ids),
            output_tokens=wanted,
            text=self.decode(list(islice(cycle(ids), wanted))),
            finish_reason="length" if wanted == output_tokens else "stop",
        )

    def values(self) -> dict[str, float]:
        return {"weights_bytes": 0.0}

    def begin(self, case: Case) -> None:
        pass

    def close(self) -> None:
        pass
