"""The processes that a test started; what the session started before it (PostgreSQL, a compiler's helpers) is none of them."""

import psutil


class Children:
    def __init__(self) -> None:
        self._before = psutil.Process().children()

    def __call__(self) -> list[psutil.Process]:
        begun = [child for child in psutil.Process().children() if child not in self._before]
        return begun + [child for parent in begun for child in _below(parent)]


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
