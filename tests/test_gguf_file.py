"""GGUF files byte by byte: what was written is read, and what is cut off is refused."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gemma import gguf_header

from bench.gguf_file import GgufFile, Tensor, number, read_gguf, write_data, write_header

TEXT = 8
names = st.text(min_size=1, max_size=20)
values = st.one_of(
    st.integers(0, 2**32 - 1).map(number),
    st.text(max_size=9).map(lambda text: (TEXT, len(text.encode()).to_bytes(8, "little") + text.encode())),
)


@given(
    pairs=st.dictionaries(names, values, max_size=5),
    tensors=st.dictionaries(names, st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.binary(max_size=70)), max_size=5),
)  # fmt: skip
def test_what_was_written_is_read(pairs: dict[str, tuple[int, bytes]], tensors: dict[str, tuple[list[int], bytes]]) -> None:
    file = io.BytesIO()
    write_header(file, pairs, [(name, tuple(shape), 24, len(data)) for name, (shape, data) in tensors.items()])
    for _, data in tensors.values():
        write_data(file, [data], len(data), 32)
    written = file.getvalue()
    found = read_gguf(written)
    assert (found.pairs, found.alignment, found.data_start % 32) == (pairs, 32, 0)
    assert [(one.name, one.shape, one.type_id) for one in found.tensors] == [
        (name, tuple(shape), 24) for name, (shape, _) in tensors.items()
    ]
    for one, (_, data) in zip(found.tensors, tensors.values(), strict=True):
        start = found.data_start + one.offset
        assert (written[start : start + len(data)], start % 32) == (data, 0)


def test_the_header_of_a_real_kind() -> None:
    found = read_gguf(gguf_header(15, shapes=((4, 8), (16,))))
    assert (found.value("general.architecture"), found.value("general.file_type")) == ("gemma3", 15)
    assert found.value("none") is None
    assert found.tensors == (Tensor("blk.0.weight", (4, 8), 0, 0), Tensor("blk.1.weight", (16,), 0, 0))
    assert found.tensors[0].elements == 32


def test_of_an_array_the_first_number_counts() -> None:
    raw = (4).to_bytes(4, "little") + (2).to_bytes(8, "little") + (7).to_bytes(4, "little") + (9).to_bytes(4, "little")
    assert GgufFile({"heads": (9, raw)}, (), 0, 32).value("heads") == 7


@pytest.mark.parametrize("size", [0, 3, 20, 40, 100])
def test_what_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        read_gguf(gguf_header()[:size])


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no GGUF file of version 2 or 3"):
        read_gguf(b"PK\x03\x04" + bytes(60))


def test_data_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes came where the header says 4"):
        write_data(io.BytesIO(), [b"abc"], 4, 32)
