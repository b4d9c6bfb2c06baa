"""A model of transformers in this process: `generate` as users run it, with a clock in its stopping criteria."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any, Literal

from bench.engines import transformers_attention, transformers_caches, transformers_compile
from bench.engines.freed_memory import give_back
from bench.engines.protocol import Clock, Generation, TrainingStep, UnsupportedError
from bench.engines.transformers_caches import cache_bytes
from bench.engines.transformers_devices import DEVICES
from bench.engines.transformers_draft import Draft
from bench.engines.transformers_requests import CaseRequests
from bench.engines.transformers_steps import own_events
from bench.engines.weights_bytes import weights_bytes
from bench.workloads import Prompt
from results.cases import Case, PromptFormat, Training

READY_PROMPT_TOKENS = 32
"""Of the requests that make a case ready, where its prompts have no fixed length."""


class TransformersSession:
    def __init__(
        self, model: Any, tokenizer: Any, case: Case, draft: Draft | None = None,
        together: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """
        Args:
            case: any of the load; `begin` tells which one comes, and until then there is no depth and nothing is compiled.
            together: waits for the processes that compute with this one, right before a request is sent.
        """
        import torch

        self._model, self._tokenizer, self._torch, self._draft = model, tokenizer, torch, draft
        self._together = together
        self._device = DEVICES[model.device.type](torch, model.device)
        self.timing = self._device.timing
        settings = model.generation_config
        ids = settings.eos_token_id
        self._eos = tuple(ids) if isinstance(ids, list) else () if ids is None else (ids,)
        settings.eos_token_id = None  # `generate` would fall back on it where a request's length is fixed
        settings.cache_implementation = None  # some models bring one, and every request is given its cache here
        self._found: dict[str, float] = {}
        self._take(case.model_copy(update={"depth": 0}))

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        if form == "plain":
            return list(self._tokenizer(text).input_ids)
        if not self._tokenizer.chat_template:
            raise UnsupportedError("the model has no chat template: set workload.prompt_format to plain.")
        message = [{"role": "user", "content": text}]
        return list(
            self._tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        )

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def recount(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """
        Raises:
            UnsupportedError: the prompt has no tokens, or the case's attention kernel does not take it.
        """
        return self.generate_batch([prompt], output_tokens, stop, clock)[0]

    def generate_batch(
        self, prompts: Sequence[Prompt], output_tokens: int, stop: Literal["length", "eos"], clock: Clock
    ) -> list[Generation]:
        """As `generate`, for all of them at once."""
        from transformers import StoppingCriteriaList

        if not all(prompt.token_ids for prompt in prompts):
            raise UnsupportedError("the prompt has no tokens: give it some text.")
        drafts = {} if self._draft is None else {"assistant_model": self._draft.model}
        with self._torch.inference_mode(), transformers_attention.kernel(self._case):
            ready = self._requests.ready(prompts, output_tokens, stop)
            self._together()
            self._device.ready()
            steps = self._device.steps(len(prompts), clock)
            sent = clock()
            steps.start()
            ids = self._torch.tensor(ready.rows, device=self._model.device)
            output = self._model.generate(ids, stopping_criteria=StoppingCriteriaList([steps]), **ready.arguments, **drafts)
            times = steps.times(sent)
        width = ids.shape[1]
        tokens = steps.tokens(width)
        values = self._device.request_values()
        if self._draft:
            values |= self._draft.accepted_share(tokens)
        if ready.cache is not None:
            cached = cache_bytes(ready.cache) + (self._draft.cache_bytes() if self._draft else 0)
            self._found["kv_cache_bytes"] = max(self._found.get("kv_cache_bytes", 0.0), float(cached))
        found = []
        for prompt, row in zip(prompts, output[:, width:].tolist(), strict=True):
            own, stopped = self._own(row, stop)
            event_times, event_tokens = own_events(times, tokens, len(own))
            found.append(
                Generation(
                    sent=sent, event_times=event_times, event_tokens=event_tokens, prompt_tokens=len(prompt.token_ids),
                    output_tokens=len(own), text=self.decode(own), finish_reason="stop" if stopped else "length", values=values,
                )
            )  # fmt: skip
        return found

    def _own(self, row: list[int], stop: Literal["length", "eos"]) -> tuple[list[int], bool]:
        """(tokens up to the end of sequence, whether it came); what follows it in a batch is padding."""
        end = next((number for number, token in enumerate(row, 1) if token in self._eos), None) if stop == "eos" else None
        return row[:end], end is not None

    def values(self) -> dict[str, float]:
        return {"weights_bytes": self._weights_bytes()} | self._device.values() | self._found

    def _weights_bytes(self) -> float:
        return float(weights_bytes(self._model) + (weights_bytes(self._draft.model) if self._draft else 0))

    def begin(self, case: Case) -> None:
        if unsupported := transformers_caches.unsupported(self._model, case):
            raise UnsupportedError(unsupported)
        self._found = {}
        self._take(case)
        if case.compile_mode or case.kv_cache == "quantized":
            self._make_ready(case)
        give_back()  # what the first call freed, in which some kernels pack weights anew
        self._device.begin()

    def _make_ready(self, case: Case) -> None:
        """Let requests of the case's shape have compiled what its own will run, and forget them."""
        length = case.prompt_tokens or READY_PROMPT_TOKENS
        asked = [Prompt(0, "", tuple(islice(cycle(self.encode("Ready", "plain")), length)))] * case.batch
        self._requests.compiled = case.compile_mode is not None

        def run(output_tokens: int) -> None:
            self.generate_batch(asked, output_tokens, "length", time.perf_counter)

        found = {}
        if case.compile_mode:
            found["compile_s"] = transformers_compile.compile_s(lambda: run(case.output_tokens))
        else:
            run(2)  # tokens, as the second one reads what the first one packed, with code that is compiled for it
        self._found = found
        self._requests.restart()

    def _take(self, case: Case) -> None:
        self._case, pad = case, self._tokenizer.pad_token_id
        self._requests = CaseRequests(
            self._model, case, lambda text: self.encode(text, "plain"), 0 if pad is None else pad, self._eos
        )  # fmt: skip

    def train(
        self, training: Training, seed: int, clock: Clock, begun: Callable[[], None], tell: Callable[[TrainingStep], None]
    ) -> None:
        from bench.engines.transformers_training import train

        weights = self._weights_bytes()  # of the model as it was loaded: training puts matrices of its own in
        found = train(self._model, lambda text: self.encode(text, "plain"), training, seed, clock, self._device.wait, begun, tell)
        self._found |= {"weights_bytes": weights} | found

    def close(self) -> None:
        """The model goes with the process."""
