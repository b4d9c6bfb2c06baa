"""A loopback server with fixed JSON answers, for what engines ask a server before they measure."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = tuple[int, Any]
"""Status and JSON value; a value of bytes goes out as it is."""


class JsonStandin:
    """Listens while it is entered.

    Args:
        routes: path → answer, or what makes one from the request's body; other paths are 404.
    """

    def __init__(self, routes: dict[str, Answer | Callable[[Any], Answer]]) -> None:
        self.routes = routes
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        """(path, body, headers in lower case) of every request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"standin": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    standin: JsonStandin

    def do_GET(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else None
        self.standin.asked.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
        route = self.standin.routes.get(self.path, (404, {"error": "not found"}))
        status, value = route(body) if callable(route) else route
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", value)
        self.end_headers()
        self.wfile.write(value if isinstance(value, bytes) else json.dumps(value).encode())

    do_POST = do_GET  # noqa: N815 the name that the library calls

    def log_message(self, *_: Any) -> None:
        pass
