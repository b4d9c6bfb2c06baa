"""Holding a run while it is measured: the hold ends with the process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from bench.cache import cache_folder
from bench.preparing import unwritable
from results.errors import UsageError


@contextmanager
def hold_run(run_id: str) -> Iterator[None]:
    """Hold a run against every other process.

    Raises:
        UsageError: another process holds it.
        WeightsError: the cache folder cannot be written.
    """
    folder = cache_folder() / "runs"
    lock = FileLock(folder / f"{run_id}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"Run {run_id} is still going on in another process: wait for it, or end that first.") from None
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()
