"""Why a worker gave no result: its own word, its exit code, its last words, and what the parent did to it, as kind and sentence."""

from bench.classify import REMEDY, memory_ran_out
from results.format import quantity
from results.records import FailureKind

INTERRUPTED = "The run was interrupted: go on with `bench run --resume`."
FAULT = "see the stderr tail, and report it if the engine is one of Gemmeter's own."


class WorkerEnded(Exception):  # noqa: N818 an ending, of which some are errors
    """The worker gave no result for the case in flight."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def starved(free: int) -> WorkerEnded:
    """It was ended before the machine had no memory left.

    Args:
        free: bytes that were left.
    """
    return WorkerEnded("oom", f"Ended when {quantity(free, 'B')} of memory were left: {REMEDY}")


def over_limit(held: int, limit: int) -> WorkerEnded:
    """It held more bytes than it was given."""
    given = f"the limit given was {quantity(limit, 'B')}"
    return WorkerEnded("oom", f"Ended at {quantity(held, 'B')} of resident memory, {given}: raise memory_limit, or {REMEDY}")


def late(what: str, seconds: float) -> WorkerEnded:
    return WorkerEnded(
        "timeout", f"{what} took more than {seconds:g} s: raise timeout_s, or look at the stacks in the stderr tail."
    )


def told(kind: FailureKind, message: str, last_words: str, *, kernel_killed: bool) -> WorkerEnded:
    """By the worker's own word, unless a process of its own, or a library, ran out of memory without telling it."""
    if kind in ("crash", "engine_error") and (
        ending := _out_of_memory(last_words, kernel_killed=kernel_killed and kind == "crash")
    ):
        return ending
    return WorkerEnded(kind, message)


def exited(code: int | None, last_words: str, *, kernel_killed: bool) -> WorkerEnded:
    """Without a word.

    Args:
        code: as of `subprocess`; `None` when it could not be waited for.
        last_words: what was written to standard error since the phase began.
        kernel_killed: whether the kernel killed any process for memory meanwhile.
    """
    if code is None or code == 0:
        return WorkerEnded("bad_output", f"The worker ended without a result: {FAULT}")
    if ending := _out_of_memory(last_words, kernel_killed=kernel_killed and code == -9):
        return ending
    how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
    return WorkerEnded("crash", f"The worker {how}: see its last lines, then `bench run --resume … --retry-failed`.")


def _out_of_memory(last_words: str, *, kernel_killed: bool) -> WorkerEnded | None:
    if kernel_killed:
        return WorkerEnded("oom", f"The kernel killed a process of the worker for memory: {REMEDY}")
    if line := memory_ran_out(last_words):
        return WorkerEnded("oom", f"Memory ran out ({line.rstrip('.')}): {REMEDY}")
    return None
