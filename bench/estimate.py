"""What a case will take of its device's memory, before it is tried: weights, KV cache, activations and the runtime."""

from bench.architecture import Architecture
from results.cases import Case, MemoryEstimate


def estimate(
    case: Case, architecture: Architecture, available_bytes: int | None, draft: Architecture | None = None
) -> MemoryEstimate:
    raise NotImplementedError
