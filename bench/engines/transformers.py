"""Hugging Face Transformers in process, on CPU and CUDA: `generate` as users run it, with a clock in its stopping criteria."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.engines.protocol import Clock, Generation, Source, Support, UnsupportedError
from bench.workloads import Prompt
from results.errors import UsageError
from results.records import Case, PromptFormat

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Transformers:
    support = Support(
        weights="folder",
        packages=("torch", "transformers", "accelerate"),
        extra="transformers",
        devices=("cpu", "cuda"),
        quantizations=tuple(DTYPES),
    )

    def __init__(self) -> None:
        import torch
        import transformers
        import transformers.models.auto.modeling_auto
        import transformers.models.auto.tokenization_auto

        self._torch, self._transformers = torch, transformers

    def refuse(self, case: Case) -> str | None:
        if case.quantization != case.dtype:
            return f"transformers computes {case.quantization} weights in {case.quantization}: give no other dtype."
        if case.device == "cuda" and not self._torch.cuda.is_available():
            return "this torch sees no CUDA device: install a CUDA build of torch, or choose device cpu."
        return None

    def load(self, source: Source, case: Case) -> "TransformersSession":
        if source.weights is None:
            raise UsageError("The engine transformers needs the weights in a folder: name one as model.")
        folder, torch, transformers = source.weights, self._torch, self._transformers
        transformers.utils.logging.disable_progress_bar()
        if case.threads is not None:
            torch.set_num_threads(case.threads)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, DTYPES[case.dtype]),
            device_map=None if case.device == "cpu" else case.device,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        model.eval()
        return TransformersSession(model, tokenizer)


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
        steps = _CudaSteps(torch, self._device) if self._cuda else _Steps(torch, self._device, clock)
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

    def reset(self) -> None:
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


class _Steps:
    """Takes the time whenever `generate` asks whether to stop: once per token, right after it was chosen."""

    def __init__(self, torch: Any, device: "torch.device", clock: Clock) -> None:
        self._never = torch.zeros(1, dtype=torch.bool, device=device)
        self._clock = clock
        self._taken: list[float] = []

    def start(self) -> None:
        pass

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._taken.append(self._clock())
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        return tuple(self._taken)


class _CudaSteps(_Steps):
    """Records an event on the device per step and reads them all after one synchronise: nothing waits inside the loop."""

    def __init__(self, torch: Any, device: "torch.device") -> None:
        super().__init__(torch, device, lambda: 0.0)
        self._cuda, self._device = torch.cuda, device
        self._stream = torch.cuda.current_stream(device)
        self._first = self._event()
        self._events: list[Any] = []

    def _event(self) -> Any:
        return self._cuda.Event(enable_timing=True)

    def start(self) -> None:
        self._first.record(self._stream)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        event = self._event()
        event.record(self._stream)
        self._events.append(event)
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        self._cuda.synchronize(self._device)
        return tuple(sent + self._first.elapsed_time(event) / 1e3 for event in self._events)


def weights_bytes(model: Any) -> int:
    """Bytes of all distinct storages of parameters and buffers: tied weights count once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(storages.values())
