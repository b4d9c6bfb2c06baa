"""What ends a run from outside: Ctrl-C and its like. The first one waits until a result is stored, the second one for nothing."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Signals become `KeyboardInterrupt`s in the main thread.

    Attributes:
        count: signals so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held = self._owed = self._deaf = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals in here. After a second one the process is about to end, and further ones shall not change how."""
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        before = [signal.signal(number, self._heard) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, signal.SIG_IGN if self.count > 1 else handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A first signal in here takes effect at the end of it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._owed:
            self._owed = False
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """From now on: how the run ended is being stored."""
        self._deaf = True

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._deaf:
            return
        self.count += 1
        if self._held and self.count == 1:
            self._owed = True
        else:
            self._owed = False
            raise KeyboardInterrupt
