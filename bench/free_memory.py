"""What is free where a case will run, when a run is planned: on the machine, or on the GPUs that a process of ours would see."""

import os

from monitor import devices, nvml


def free_bytes(device: str, count: int = 1, driver: nvml.Driver | None = None) -> int | None:
    """
    Args:
        device: `cpu`, `cuda` or `mps`; an Apple GPU has the machine's memory.
        count: GPUs that share the layers; the first ones that may be used.
        driver: tests pass a stand-in's; `None`: this machine's.

    Returns:
        `None` where nobody tells.
    """
    if device != "cuda":
        return devices.free_memory_bytes()
    found = driver or nvml.driver()
    if found is None:
        return None
    seen = found.used_by((), os.environ.get("CUDA_VISIBLE_DEVICES")).indices[:count]
    asked = [found.ask("MemoryInfo", gpu) for gpu in seen]
    return sum(int(one.free) for one in asked) if asked and all(asked) else None
