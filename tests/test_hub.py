"""Hub models against a stand-in of the hub: found, downloaded, used offline, and refused in one sentence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub, Repository, fake_hub

from bench.hub import HUB_ID, download, find
from bench.preparing import MissingWeightsError, UnsupportedWeightsError
from results.errors import UsageError

WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"model_type": "gemma3_text"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"pickle",
    "modeling_gemma.py": b"import os",
    "consolidated.safetensors": b"twice",
    "README.md": b"# Gemma",
}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    repositories = {
        "google/open": Repository(FILES, revisions=("main", "v1"), config={"tokenizer_config": {"chat_template": "x"}}),
        "google/gemma-3-4b-it": Repository(FILES, gated=True),
        "google/awq": Repository(FILES, config={"quantization_config": {"quant_method": "awq"}}),
        "google/pickled": Repository({"config.json": b"{}", "pytorch_model.bin": b"pickle"}),
    }
    with fake_hub(repositories) as running:
        yield running


def quiet(_step: str, _done: float | None) -> None: ...


def test_find_and_download(hub: FakeHub, tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    model = find("google/open", "v1", endpoint=hub.endpoint, cache_dir=tmp_path)
    folder = download(
        "google/open", model.commit, lambda step, done: told.append((step, done)), endpoint=hub.endpoint, cache_dir=tmp_path
    )
    assert (model.commit, model.quantization, model.chat) == ("c" * 40, None, True)
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert told[0] == ("looking for google/open", None)
    assert told[-1] == ("downloading google/open", 1.0)
    assert all(done is None or 0 < done <= 1 for _, done in told)


def test_what_was_downloaded_serves_offline(hub: FakeHub, tmp_path: Path) -> None:
    model = find("google/open", endpoint=hub.endpoint, cache_dir=tmp_path)
    folder = download("google/open", model.commit, quiet, endpoint=hub.endpoint, cache_dir=tmp_path)
    assert find("google/open", model.commit, endpoint=NOWHERE, cache_dir=tmp_path) == model
    assert download("google/open", model.commit, quiet, endpoint=NOWHERE, cache_dir=tmp_path) == folder
    assert find("google/open", endpoint=NOWHERE, cache_dir=tmp_path).commit == model.commit
    hub.broken = True
    assert find("google/open", model.commit, endpoint=hub.endpoint, cache_dir=tmp_path) == model


def test_quantized_weights_say_so(hub: FakeHub) -> None:
    assert find("google/awq", endpoint=hub.endpoint).quantization == "awq"


def test_gated_model_needs_a_token(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find("google/gemma-3-4b-it", endpoint=hub.endpoint, cache_dir=tmp_path)
    for wrong in (None, "hf_another"):
        if wrong:
            monkeypatch.setenv("HF_TOKEN", wrong)
        with pytest.raises(
            MissingWeightsError, match=r"gated: accept its licence at .*/google/gemma-3-4b-it, then set HF_TOKEN"
        ) as raised:
            download("google/gemma-3-4b-it", model.commit, quiet, endpoint=hub.endpoint, cache_dir=tmp_path)
        assert raised.value.kind == "missing_weights"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = download("google/gemma-3-4b-it", model.commit, quiet, endpoint=hub.endpoint, cache_dir=tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert {token for _, path, token in hub.requests if path.startswith("/lfs/")} == {None}  # another host gets no token
    assert not any(TOKEN.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_unknown_model_names_the_nearest(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in (None, TOKEN):  # 401 to strangers, 404 to others
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(
            UsageError, match=r"there is no folder 'google/gemma-3-8b-it'.*google/gemma-3-4b-it, google/gemma-3-12b-it"
        ):
            find("google/gemma-3-8b-it", endpoint=hub.endpoint)


def test_unknown_revision(hub: FakeHub) -> None:
    with pytest.raises(UsageError, match=r"google/open has no revision 'v2'.*commits"):
        find("google/open", "v2", endpoint=hub.endpoint)


def test_hub_out_of_reach(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="not on this machine and the hub cannot be reached") as raised:
        find("google/open", endpoint=NOWHERE, cache_dir=tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(MissingWeightsError, match="cannot be reached"):
        download("google/open", "c" * 40, quiet, endpoint=NOWHERE, cache_dir=tmp_path)
    hub.broken = True
    with pytest.raises(MissingWeightsError, match="answered 503 for google/open: try again later"):
        find("google/open", endpoint=hub.endpoint, cache_dir=tmp_path)


def test_pickled_weights_are_not_fetched(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedWeightsError, match="no safetensors"):
        download("google/pickled", "c" * 40, quiet, endpoint=hub.endpoint, cache_dir=tmp_path)
    assert not any("pytorch_model.bin" in path for _, path, _ in hub.requests)


def test_forms_of_a_hub_id() -> None:
    assert HUB_ID.fullmatch("google/gemma-3-1b-it@refs/pr/4").groupdict() == {
        "id": "google/gemma-3-1b-it",
        "revision": "refs/pr/4",
    }  # type: ignore[union-attr]
    assert not any(HUB_ID.fullmatch(text) for text in ("gemma", "./a/b", "a/b/c", "a/b@", "../b", "-a/ b"))
