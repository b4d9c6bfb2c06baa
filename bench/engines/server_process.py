"""A server of ours as a child process: started, waited for, watched and ended. What it answers is left to `served`.

Its standard input is a pipe of ours, so a child that reads it ends with us; on Linux the kernel ends any child whose parent is gone.
"""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence

import psutil

from bench.engines.server_calls import ServerCalls, ServerError
from monitor.processes import tree, when_parent_ends

HOST = "127.0.0.1"
POLL_S = 0.05
"""Between two questions whether it is ready: they take CPU from its loading."""
HEALTH_TIMEOUT_S = 5.0
LAST_BREATH_S = 1.0
"""For which the end of a server is waited for when its connection has broken."""


class ServerProcess:
    """A running server that has said that it is healthy.

    Start it in the thread that lives longest: on Linux the server ends with the thread that started it.
    """

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it is healthy or has ended, however long that takes.

        Args:
            command: the program and its arguments; it must listen on this port of the loopback interface.
            environment: of the child; `None`: ours. What it prints goes to our standard error.

        Raises:
            ServerEndedError: it ended before it was healthy.
            OSError: the program cannot be started.
        """
        self.root_url = f"http://{HOST}:{port}"
        self._calls = ServerCalls(self.root_url)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=2,
            env=environment,
            preexec_fn=when_parent_ends(signal.SIGKILL),  # noqa: PLW1509 it makes one system call, and nothing of Python's
        )
        self.pid = self._process.pid
        try:
            healthy = False
            while not healthy:
                healthy = self._healthy()
                if reason := self.ended():  # also where somebody is healthy: another process may have taken the port
                    raise ServerEndedError(f"{reason} It had not begun to answer: its last lines say why.")
                if not healthy:
                    time.sleep(POLL_S)
        except BaseException:
            self.close()
            raise

    def _healthy(self) -> bool:
        try:
            self._calls.ask("/health", timeout_s=HEALTH_TIMEOUT_S)
        except ServerError:
            return False
        return True

    def ended(self, patience_s: float = 0.0) -> str | None:
        """How it ended, in one sentence; `None` while it runs.

        Args:
            patience_s: to wait for an end that is expected: a connection breaks a little earlier than its process ends.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            name = next((one.name for one in signal.Signals if one == -code), "real-time")
            return f"The server was killed by signal {-code} ({name})."
        return f"The server ended with exit code {code}."

    def close(self) -> None:
        """End it and all of its children."""
        family = []
        if self._process.poll() is None:
            for pid in tree(self.pid):
                with contextlib.suppress(psutil.Error):
                    family.append(psutil.Process(pid))
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


class ServerEndedError(Exception):
    """A server of ours ended before it could be asked anything."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
