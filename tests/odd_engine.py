"""An engine of another package that goes wrong as `kv_dtype` says, in cases of 8 tokens; the others are measured.

`install` makes a folder for `PYTHONPATH` in which `bench` and its workers find it under the name `odd`.
"""

import ctypes
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bench.engines.protocol import Clock, Generation, Source, Support, UnsupportedError
from bench.workloads import Prompt
from results.cases import Case, PromptFormat

ODD_TOKENS = 8
PACE_S = 0.001


def install(folder: Path) -> Path:
    info = folder / "odd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gemmeter.engines]\nodd = odd_engine:Odd\n")
    shutil.copy(__file__, folder)
    return folder


class Odd:
    support = Support(
        weights="folder", packages=(), extra=None, devices=("cpu",), quantizations=("fp32",), switches=frozenset({"kv_dtype"})
    )

    def refuse(self, case: Case) -> str | None:
        return "odd has no 8 tokens: ask for others." if _is_odd(case, "refused") else None

    def load(self, source: Source, case: Case) -> "OddSession":
        if case.kv_dtype == "missing":
            import no_such_package  # noqa: F401
        if case.kv_dtype == "hangs-at-load":
            time.sleep(600)
        if case.kv_dtype == "impossible":
            _take_all()
        return OddSession()


class OddSession:
    timing = "perf_counter"

    def __init__(self) -> None:
        self._case: Case | None = None

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(one) for one in ids)

    def recount(self, text: str) -> int:
        return len(text)

    def begin(self, case: Case) -> None:
        self._case = case
        if _is_odd(case, "unable"):
            raise UnsupportedError("the model cannot do it: ask for other lengths.")

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        self._go_wrong()
        sent, times = clock(), []
        for _ in range(output_tokens):
            time.sleep(PACE_S)
            times.append(clock())
        text = (prompt.text * output_tokens)[:output_tokens]
        return Generation(
            sent, tuple(times), (1,) * output_tokens, len(prompt.token_ids), output_tokens, text, "length"
        )  # fmt: skip

    def _go_wrong(self) -> None:
        if self._case is None:  # the first call
            return
        if _is_odd(self._case, "eats"):
            _take_all()
        if _is_odd(self._case, "crashes"):
            ctypes.string_at(0)
        if _is_odd(self._case, "aborts"):
            os.abort()
        if _is_odd(self._case, "hangs"):
            ctypes.PyDLL(None).sleep(600)  # with the GIL

    def values(self) -> dict[str, float]:
        return {"weights_bytes": 0.0}

    def close(self) -> None:
        pass


def _is_odd(case: Case, how: str) -> bool:
    return case.kv_dtype == how and case.output_tokens == ODD_TOKENS


def _take_all() -> None:
    held = []
    while True:
        held.append(bytearray(b"x" * 2**20))
        time.sleep(0.002)
