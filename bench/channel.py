"""The worker's side of its pipes: events to the parent as JSON lines, acknowledgements from it, and the end when it is gone."""

import contextlib
import json
import os
import queue
import threading
from typing import Any, TextIO

GO_ON, STOP = "{}", "stop"
"""What the parent says: that it has acted on an event, and that it wants no more than what is there."""


class Channel:
    """Events to the parent, acknowledgements from it."""

    def __init__(self, events: TextIO, commands: TextIO) -> None:
        self._events, self._commands = events, commands
        self._lines: queue.Queue[str] = queue.Queue()
        self.stopped = threading.Event()
        """Set when the parent wants no more than what is there."""

    def send(self, event: str, **facts: Any) -> None:
        self._events.write(json.dumps({"event": event, **facts}) + "\n")
        self._events.flush()

    def ask(self, event: str, **facts: Any) -> None:
        """Send an event and wait until the parent has acted on it."""
        self.send(event, **facts)
        self._lines.get()

    def first(self) -> str:
        return self._commands.readline()

    def listen(self) -> None:
        """From now on, end this process and its children as soon as the parent is gone."""
        threading.Thread(target=self._listen, daemon=True, name="parent-watch").start()

    def _listen(self) -> None:
        for line in self._commands:
            if line.strip() == STOP:
                self.stopped.set()
            else:
                self._lines.put(line)
        end_with_children()


def end_with_children() -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)
