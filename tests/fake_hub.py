"""A stand-in for the Hugging Face hub on loopback: the endpoints, headers and error codes that `huggingface_hub` meets when it
looks up a model and downloads a snapshot. Large files are redirected to another host, small ones to the resolve cache, as the
hub does; Xet storage is not stood in for."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_the_right_one"


@dataclass
class Repository:
    files: Mapping[str, bytes]
    commit: str = "c" * 40
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeHub:
    endpoint: str
    repositories: dict[str, Repository]
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and authorization of every request."""
    broken: bool = False
    """Answers 503 to everything."""


@contextmanager
def fake_hub(repositories: dict[str, Repository]) -> Iterator[FakeHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = FakeHub(f"http://127.0.0.1:{server.server_port}", repositories)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("authorization")))
        parts = path.strip("/").split("/")
        if hub.broken:
            self._answer(503, b"{}")
        elif parts[0] == "lfs":
            self._answer(200, self._blob(parts[1]))
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif parts[:3] == ["api", "resolve-cache", "models"]:
            self._small_file(hub.repositories["/".join(parts[3:5])], parts[6])
        else:
            self._resolve("/".join(parts[:2]), parts[3], parts[4])

    def do_HEAD(self) -> None:
        self.do_GET()

    def _api(self, repo_id: str, rest: list[str]) -> None:
        repository = self._found(repo_id, rest[1] if rest else "main")
        if repository is None:
            return
        if rest[:1] == ["tree"]:
            self._json([_tree_entry(name, data) for name, data in repository.files.items()])
        else:
            siblings = [{"rfilename": name} for name in repository.files]
            gated = "manual" if repository.gated else False
            self._json(
                {"id": repo_id, "sha": repository.commit, "gated": gated, "siblings": siblings, "config": repository.config}
            )

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        repository = self._found(repo_id, revision)
        if repository is None:
            return
        if repository.gated and self.headers.get("authorization") != f"Bearer {TOKEN}":
            status = 403 if self.headers.get("authorization") else 401
            self._error(status, "GatedRepo", f"Access to model {repo_id} is restricted.")
        elif name not in repository.files:
            self._error(404, "EntryNotFound", "Entry not found")
        elif name.endswith(".safetensors"):
            data = repository.files[name]
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{_sha256(data)}"'}
            self._answer(
                302,
                b"",
                {
                    "Location": f"http://localhost:{self.server.server_port}/lfs/{_sha256(data)}",
                    "X-Repo-Commit": repository.commit,
                }
                | linked,
            )
        else:
            self._answer(307, b"", {"Location": f"/api/resolve-cache/models/{repo_id}/{repository.commit}/{name}"})

    def _small_file(self, repository: Repository, name: str) -> None:
        data = repository.files[name]
        self._answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": repository.commit})

    def _blob(self, digest: str) -> bytes:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        blobs = (data for repository in hub.repositories.values() for data in repository.files.values())
        return next(data for data in blobs if _sha256(data) == digest)

    def _found(self, repo_id: str, revision: str) -> Repository | None:
        repository = self.server.hub.repositories.get(repo_id)  # type: ignore[attr-defined]
        if repository is None:
            status = 404 if self.headers.get("authorization") else 401  # the hub does not tell strangers what exists
            self._error(status, "RepoNotFound", "Repository not found" if status == 404 else "Invalid username or password.")
        elif revision not in (*repository.revisions, repository.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def _error(self, status: int, code: str, message: str) -> None:
        self._answer(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    lfs = {"lfs": {"oid": _sha256(data), "size": len(data), "pointerSize": 135}}
    return entry | (lfs if name.endswith(".safetensors") else {})


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
