"""What an exception inside a worker means: the kind of failure, and one sentence with a remedy."""

from results.records import FailureKind


class EngineDiedError(Exception):
    """A server of ours ended while it was measured."""


class EngineFailedError(Exception):
    """A server answered nothing."""


def classify(error: Exception, engine: str) -> tuple[FailureKind, str]:
    """The kind of failure that an exception means, and one sentence with a remedy."""
    from bench.engines import support
    from bench.engines.protocol import UnsupportedError
    from bench.engines.server_process import ServerEndedError
    from results.errors import GemmeterError

    text = " ".join(str(error).split())[:400] or type(error).__name__
    if isinstance(error, UnsupportedError | GemmeterError):
        return getattr(error, "kind", "unsupported"), text
    if isinstance(error, EngineDiedError | ServerEndedError):
        return "crash", text
    if isinstance(error, EngineFailedError):
        return "engine_error", f"{text} Look at the server and its log, and run again."
    if isinstance(error, ImportError):
        able = support(engine)
        what = f'"gemmeter[{able.extra}]"' if able.extra else " ".join(able.packages)
        return "missing_dependency", f"{text}: install it with `pip install {what}`."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "oom", f"Memory ran out ({text}): choose a smaller model, dtype, length or batch."
    return (
        "engine_error",
        f"The engine failed with {type(error).__name__}: {text.rstrip('.')}. The stderr tail has the traceback.",
    )
