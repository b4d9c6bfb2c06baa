"""Why a worker gave no result, without one."""

import pytest

from bench.endings import exited, late, over_limit, starved, told

ALLOCATOR = "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache\n"


@pytest.mark.parametrize(
    ("code", "words", "kernel_killed", "kind"),
    [
        (None, "", False, "bad_output"),
        (0, ALLOCATOR, True, "bad_output"),
        (-9, "", True, "oom"),
        (-9, "", False, "crash"),
        (-11, "", True, "crash"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n", False, "oom"),
        (-6, "memory allocation of 8589934592 bytes failed\nstack backtrace:\n   0: rust_begin_unwind\n", False, "oom"),
        (-6, "GGML_ASSERT(n_tokens > 0) failed\n", False, "crash"),
        (1, ALLOCATOR, False, "oom"),
    ],
)
def test_an_exit_is_known_by_its_code_and_its_last_words(code: int | None, words: str, kernel_killed: bool, kind: str) -> None:
    assert exited(code, words, kernel_killed=kernel_killed).kind == kind


@pytest.mark.parametrize(
    ("kind", "words", "kernel_killed", "found"),
    [
        ("engine_error", ALLOCATOR, False, "oom"),
        ("crash", ALLOCATOR, False, "oom"),
        ("crash", "", True, "oom"),
        ("engine_error", "", True, "engine_error"),
        ("unsupported", ALLOCATOR, True, "unsupported"),
        ("interrupted", ALLOCATOR, False, "interrupted"),
    ],
)
def test_a_workers_word_stands_unless_memory_was_the_reason(kind: str, words: str, kernel_killed: bool, found: str) -> None:
    ended = told(kind, "said", words, kernel_killed=kernel_killed)  # type: ignore[arg-type]
    assert ended.kind == found
    assert (ended.message == "said") == (found == kind)


def test_messages_have_the_figures_and_the_remedy() -> None:
    assert starved(300 * 2**20).message == (
        "Ended when 300 MiB of memory were left: choose a smaller model, dtype, length or batch."
    )  # fmt: skip
    assert over_limit(3 * 2**30, 2**31).message == (
        "Ended at 3 GiB of resident memory, the limit given was 2 GiB: raise memory_limit, or choose a smaller model, dtype, length or "
        "batch."
    )
    assert late("The load", 1.5).message.startswith("The load took more than 1.5 s: raise timeout_s")
