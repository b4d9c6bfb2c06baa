"""The processes that a test started; the session's PostgreSQL, which other tests share, is none of them."""

from contextlib import suppress

import psutil


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() != "postgres":
                found.append(child)
    return found
