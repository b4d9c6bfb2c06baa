"""What several test files share: tiny models, made once per session."""

from pathlib import Path

import pytest
from tiny_gemma import make_tiny_gemma


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gemma(tmp_path_factory.mktemp("models") / "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_gemma_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gemma(tmp_path_factory.mktemp("models") / "tiny-gemma-it", chat=True)


@pytest.fixture(scope="session")
def tiny_gemma_eos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emits the end of sequence at once."""
    return make_tiny_gemma(tmp_path_factory.mktemp("models") / "tiny-gemma-eos", eos_bias=True)
