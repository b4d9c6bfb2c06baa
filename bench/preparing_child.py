"""What child processes that prepare weights share: progress as JSON lines on standard output, and an end with whoever started them."""

import json
import os
import signal
import threading
from collections.abc import Callable

from bench.preparing import Progress, be_first_to_go


def run(work: Callable[[Progress], None]) -> None:
    """Do the work of this process; what libraries print goes to standard error, and it ends when its standard input does."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    be_first_to_go()

    def progress(step: str, done: float | None) -> None:
        lines.write(json.dumps({"step": step, "done": done}) + "\n")
        lines.flush()

    work(progress)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
