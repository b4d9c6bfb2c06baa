"""What several test files share: tiny models, made once per session."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from tiny_gemma import make_gemma_files, make_tiny_gemma

os.environ.pop("BENCH_STORE", None)  # a store of the caller's must neither be read nor written by a test

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", deadline=None, derandomize=True)  # the same examples each time: red means changed
settings.load_profile("thorough" if os.environ.get("CI") else "quick")


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, **kind: bool) -> Path:
    """A tiny model that processes running tests side by side share: making one takes seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models" / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            make_tiny_gemma(folder.with_suffix(".partial"), **kind).rename(folder)
    return folder


@pytest.fixture(scope="session")
def gemma_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that load nothing."""
    return make_gemma_files(tmp_path_factory.mktemp("files") / "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_gemma_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "tiny-gemma-it", chat=True)


@pytest.fixture(scope="session")
def tiny_gemma_eos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emits the end of sequence at once."""
    return made_once(tmp_path_factory, "tiny-gemma-eos", eos_bias=True)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
