"""A model of transformers in this process: `generate` as users run it, with a clock in its stopping criteria."""

from collections.abc import Sequence
from typing import Any, Literal

from bench.engines.protocol import Clock, Generation, UnsupportedError
from bench.engines.quantized import weights_bytes
from bench.engines.transformers_steps import CudaSteps, Steps
from bench.workloads import Prompt
from results.cases import Case, PromptFormat


class TransformersSession:
    def __init__(self, model: Any, tokenizer: Any) -> None:
        import torch

        self._model, self._tokenizer, self._torch = model, tokenizer, torch
        self._device = model.device
        self._cuda = self._device.type == "cuda"
        self.timing = "cuda_events" if self._cuda else "perf_counter"
        ids = model.generation_config.eos_token_id
        self._eos = tuple(ids) if isinstance(ids, list) else () if ids is None else (ids,)
        model.generation_config.eos_token_id = None  # `generate` would fall back on it where a request's length is fixed

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
            UnsupportedError: the prompt has no tokens.
        """
        from transformers import GenerationConfig, StoppingCriteriaList

        if not prompt.token_ids:
            raise UnsupportedError("the prompt has no tokens: give it some text.")
        torch = self._torch
        config = GenerationConfig(
            max_new_tokens=output_tokens,
            do_sample=False,
            eos_token_id=list(self._eos) if stop == "eos" and self._eos else None,
            pad_token_id=self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0,
        )
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
            torch.cuda.synchronize(self._device)
        steps = CudaSteps(torch, self._device) if self._cuda else Steps(torch, self._device, clock)
        with torch.inference_mode():
            sent = clock()
            steps.start()
            ids = torch.tensor([prompt.token_ids], device=self._device)
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([steps]),
            )
        times = steps.times(sent)
        new = output[0, ids.shape[1] :].tolist()
        return Generation(
            sent=sent,
            event_times=times[: len(new)],
            event_tokens=(1,) * len(times[: len(new)]),
            prompt_tokens=ids.shape[1],
            output_tokens=len(new),
            text=self.decode(new),
            finish_reason="stop" if stop == "eos" and new and new[-1] in self._eos else "length",
            values=self._device_peak(),
        )

    def values(self) -> dict[str, float]:
        found = {"weights_bytes": float(weights_bytes(self._model))}
        if self._cuda:
            found["peak_torch_allocated_bytes"] = float(self._peak_allocated)
            found["peak_torch_reserved_bytes"] = float(self._torch.cuda.max_memory_reserved(self._device))
        return found

    def begin(self, case: Case) -> None:
        self._peak_allocated = 0
        if self._cuda:
            self._torch.cuda.empty_cache()
            self._torch.cuda.reset_peak_memory_stats(self._device)

    def close(self) -> None:
        """The model goes with the process."""

    _peak_allocated = 0

    def _device_peak(self) -> dict[str, float]:
        if not self._cuda:
            return {}
        peak = self._torch.cuda.max_memory_allocated(self._device)
        self._peak_allocated = max(self._peak_allocated, peak)
        return {"request_peak_device_bytes": float(peak)}
