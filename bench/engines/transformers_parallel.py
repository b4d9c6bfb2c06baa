"""Tensor parallelism of transformers: the worker is rank 0, and this module run as a process is each further rank.

Rank 0 tells the others on their standard input what it is asked before it does it itself; the collectives inside the layers keep
all of them in step. A rank ends when that input does, so none outlives the worker.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from bench.engines.protocol import Clock, Generation, Source, UnsupportedError
from bench.engines.transformers_session import TransformersSession
from bench.workloads import Prompt
from results.cases import Case

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""By which libraries learn where they are among the processes."""
MEETING_S = 120.0
"""For all ranks to have started, and at most between two collectives."""


def refusal(case: Case) -> str | None:
    ranks = case.tensor_parallel
    if ranks == 1:
        return None
    alone = {
        "random weights": case.has_random_weights, "quantized weights": case.quantization != case.dtype, "an adapter": case.adapter,
        "fine-tuning": case.training, "a draft": case.draft, "compile": case.compile_mode, "a quantized KV cache": case.kv_cache == "quantized",
        "an Apple GPU": case.device == "mps",
    }  # fmt: skip
    if what := next((name for name, there in alone.items() if there), None):
        return f"this engine shares no layers among devices with {what}: set tensor_parallel to 1, or leave that out."
    if case.device == "cuda":
        import torch

        if (found := torch.cuda.device_count()) < ranks:
            return f"tensor_parallel {ranks} needs as many CUDA devices, and this torch sees {found}: lower it."
    return None


def loading(case: Case) -> dict[str, Any]:
    """Arguments of `from_pretrained` that leave each rank its share of the layers, on its own device; over others' `device_map`."""
    if case.tensor_parallel == 1:
        return {}
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(tp_size=case.tensor_parallel), "device_map": None}


class ParallelSession(TransformersSession):
    """Rank 0."""

    def __init__(self, source: Source, case: Case) -> None:
        """Start the other ranks, and load with them.

        Raises:
            UnsupportedError: the model's heads cannot be shared out evenly, or transformers has no plan how to.
        """
        check(source, case)
        self._folder = tempfile.TemporaryDirectory()
        store = Path(self._folder.name) / "ranks"
        self._ranks = [_started(source, case, rank, store) for rank in range(1, case.tensor_parallel)]
        super().__init__(*_joined(source, case, 0, store), case, None, together)

    def begin(self, case: Case) -> None:
        self._tell(begin=case.model_dump(mode="json"))
        super().begin(case)

    def generate_batch(
        self, prompts: Sequence[Prompt], output_tokens: int, stop: Literal["length", "eos"], clock: Clock
    ) -> list[Generation]:
        self._tell(prompts=[one.token_ids for one in prompts], output_tokens=output_tokens, stop=stop)
        return super().generate_batch(prompts, output_tokens, stop, clock)

    def values(self) -> dict[str, float]:
        """Bytes of weights and KV cache are those of all ranks; peaks on the device are this rank's own."""
        self._tell(values=True)
        values = super().values()
        return values | total(values, self._model.device)

    def close(self) -> None:
        for rank in self._ranks:
            if rank.stdin:
                rank.stdin.close()
        for rank in self._ranks:
            rank.wait()
        import torch

        torch.distributed.destroy_process_group()
        for name in VARIABLES:  # whoever trains next in this process would wait for ranks that are gone
            os.environ.pop(name, None)
        self._folder.cleanup()

    def _tell(self, **what: Any) -> None:
        for rank in self._ranks:
            if rank.poll() is not None or rank.stdin is None:
                raise RuntimeError(f"A rank of tensor parallelism ended by itself with exit code {rank.returncode}.")
            rank.stdin.write(json.dumps(what).encode() + b"\n")
            rank.stdin.flush()


def check(source: Source, case: Case) -> None:
    """
    Raises:
        UnsupportedError: the model's heads cannot be shared out evenly, or transformers has no plan how to.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.weights, local_files_only=True, trust_remote_code=False).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if heads % case.tensor_parallel or config.num_attention_heads % case.tensor_parallel:
        raise UnsupportedError(
            f"this model's {heads} heads of keys and values cannot be shared by {case.tensor_parallel} devices: lower tensor_parallel."
        )
    if not config.base_model_tp_plan:
        raise UnsupportedError(f"transformers has no plan to share {config.model_type}'s layers: set tensor_parallel to 1.")


def together() -> None:
    """Wait until every rank is here."""
    import torch

    torch.distributed.barrier()


def total(values: dict[str, float], device: Any) -> dict[str, float]:
    """Sums over all ranks, which call it together."""
    import torch

    names = [name for name in ("weights_bytes", "kv_cache_bytes") if name in values]
    sums = torch.tensor([values[name] for name in names], dtype=torch.float32 if device.type == "mps" else torch.float64).to(
        device
    )
    torch.distributed.all_reduce(sums)
    return dict(zip(names, sums.tolist(), strict=True))


def _started(source: Source, case: Case, rank: int, store: Path) -> "subprocess.Popen[bytes]":
    job = {
        "weights": str(source.weights), "case": case.model_dump(mode="json"),
        "rank": rank, "store": str(store),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-P", "-m", __name__], stdin=subprocess.PIPE)
    if process.stdin:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return process


def _joined(source: Source, case: Case, rank: int, store: Path) -> tuple[Any, Any]:
    """(model, tokenizer) with this rank's share of the layers."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from bench.engines.transformers_model import load

    disable_progress_bar()
    ranks = case.tensor_parallel
    os.environ |= dict(zip(VARIABLES, map(str, (rank, rank, ranks)), strict=True))
    if case.device == "cpu":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        torch.set_num_threads(max(1, (case.threads or ranks) // ranks))
    else:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "gloo" if case.device == "cpu" else "nccl", init_method=f"file://{store}", rank=rank, world_size=ranks,
        timeout=datetime.timedelta(seconds=MEETING_S),
    )  # fmt: skip
    return load(source, case)


def follow() -> None:
    """Be a further rank, until rank 0 closes the input or is gone."""
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)  # also out of a collective that nobody else will join any more

    threading.Thread(target=read, daemon=True).start()
    job = json.loads(lines.get())
    case, source = Case.model_validate(job["case"]), Source(Path(job["weights"]))
    model, tokenizer = _joined(source, case, job["rank"], Path(job["store"]))
    session = TransformersSession(model, tokenizer, case, None, together)
    while True:
        told = json.loads(lines.get())
        if "begin" in told:
            session.begin(Case.model_validate(told["begin"]))
        elif "values" in told:
            total(session.values(), model.device)
        else:
            asked = [Prompt(0, "", tuple(ids)) for ids in told["prompts"]]
            session.generate_batch(asked, told["output_tokens"], told["stop"], lambda: 0.0)


if __name__ == "__main__":
    follow()
