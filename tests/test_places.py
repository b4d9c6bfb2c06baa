"""Places: how they are written, and how `bench run` goes on and ends there, with small programs in place of an interpreter."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.places import Bench, Place, PlaceError, parse_place
from results.errors import NotComparableError, UsageError

HERE = Path(sys.executable)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pyhton=/usr/bin/python3", "'pyhton=…' is not understood: write python=PATH, folder=PATH"),
        ("python", "'python' is not understood"),
        ("python=", "'python=' is not understood"),
        ("env=1", "'env=…' is not understood"),
        ("env.=1", "'env.=…' is not understood"),
        ("server.mine=8000", "'server.mine=…' is not understood"),
        ("server.=http://x", "'server.=…' is not understood"),
        ("folder=. folder=.", "folder is given twice"),
        ("folder=/nosuch/folder", "there is no folder /nosuch/folder"),
        ("python=/nosuch/python", "there is no program /nosuch/python"),
        ("python=/etc/passwd", "there is no program /etc/passwd"),
        ("env.X='a", "no closing quotation"),
    ],
)
def test_what_is_no_place_is_told_with_its_option(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--b: ") as raised:
        parse_place(text, "--b")
    assert words in str(raised.value)


@pytest.mark.slow
def test_a_place_holds_what_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main").mkdir()
    place = parse_place("env.A='x y' env.B= server.s=http://127.0.0.1:1/v1 folder=main", "--a")
    assert place == Place(HERE, tmp_path / "main", {"A": "x y", "B": ""}, {"s": "http://127.0.0.1:1/v1"})
    assert parse_place("", "--a") == Place()


def program(folder: Path, text: str) -> Path:
    """A program that stands where an interpreter is expected."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable} -I\n{text}")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_program_without_this_gemmeter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no Python with this gemmeter installed \(it said nothing\)"):
        parse_place("python=true", "--a")
    broken = program(tmp_path, "raise ImportError('no bench here')")
    with pytest.raises(UsageError, match=r"installed \(ImportError: no bench here\): install it there"):
        parse_place(f"python={broken}", "--a")
    old = program(tmp_path, 'print(\'["0.0.9", "0001_first_tables"]\')')
    with pytest.raises(UsageError, match=r"gemmeter 0\.0\.9 .* keeps its store in another form \(0001_first_tables, here 0"):
        parse_place(f"python={old}", "--a")


@pytest.mark.slow
def test_bench_run_is_asked_with_the_place_s_folder_variables_servers_and_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    python = program(
        tmp_path,
        "import json, os, sys\n"
        "seen = {name: os.environ.get(name) for name in ('X', 'BENCH_STORE', 'BENCH_CACHE')}\n"
        "print('a notice', file=sys.stderr)\n"
        "print(json.dumps({'run_id': json.dumps([sys.argv[1:], os.getcwd(), seen])}))\n",
    )
    (tmp_path / "there").mkdir()
    heard: list[str] = []
    place = Place(python, tmp_path / "there", {"X": "1"}, {"s": "http://127.0.0.1:1"})
    found = Bench("sqlite:////s.db", heard.append).start(place, "/suite.yaml", ("dtype=bf16",), 7, "r1")
    arguments, folder, seen = json.loads(found)
    assert arguments[:1] == ["-P"]
    assert arguments[3:] == [
        *("run", "/suite.yaml", "--set=dtype=bf16", "--set=processes=1", "--seed=7", "--paired-with", "r1"),
        *("--server=s=http://127.0.0.1:1", "--json"),
    ]
    assert folder == str(tmp_path / "there")
    assert seen == {"X": "1", "BENCH_STORE": "sqlite:////s.db", "BENCH_CACHE": str(tmp_path / "cache")}
    assert heard == ["a notice"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        ("print('Error: no such suite', file=sys.stderr); sys.exit(2)", UsageError, "^no such suite$"),
        ("print('Error: elsewhere', file=sys.stderr); sys.exit(4)", NotComparableError, "^elsewhere$"),
        ("print('Error: disk full', file=sys.stderr); sys.exit(5)", PlaceError, "^disk full$"),
        ("print('odd', file=sys.stderr); sys.exit(7)", PlaceError, "with exit code 7 and no result: odd"),
        ("os.kill(os.getpid(), 9)", PlaceError, "by signal 9 and no result: it said nothing"),
        ("sys.exit(0)", PlaceError, "with exit code 0 and no result"),
        ('print(\'{"run_id": "r"}\'); sys.exit(5)', None, None),
        ("sys.exit(130)", KeyboardInterrupt, None),
    ],
)
def test_each_ending_of_a_run_is_told(tmp_path: Path, ending: str, error: type[BaseException] | None, words: str | None) -> None:
    place = Place(program(tmp_path, f"import os, sys\n{ending}"))
    if error is None:
        assert Bench("sqlite:////s.db").start(place, "s", (), 7, None) == "r"
        return
    with pytest.raises(error, match=words):
        Bench("sqlite:////s.db").start(place, "s", (), 7, None)


@pytest.mark.slow
def test_an_interrupt_is_handed_on_and_waited_for(tmp_path: Path) -> None:
    """The signal reaches this process alone; the child then takes its time to store what it has."""
    python = program(
        tmp_path,
        "import signal, sys, time, pathlib\n"
        "def heard(*_):\n"
        "    time.sleep(0.3)\n"
        f"    pathlib.Path({str(tmp_path / 'stored')!r}).write_text('yes')\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, heard)\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n",
    )
    began = time.monotonic()

    def interrupt(line: str) -> None:
        assert line == "ready"
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        Bench("sqlite:////s.db", interrupt).extend(Place(python), "r", 3, ())
    assert (tmp_path / "stored").read_text() == "yes"
    assert time.monotonic() - began < 30


CHILD = """
import pathlib, signal, sys, time
def heard(*_):
    pathlib.Path({ended!r}).write_text("yes")
    sys.exit(130)
signal.signal(signal.SIGTERM, heard)
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


def ended_within(file: Path, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return file.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no kernel tells a child that its parent ended")
def test_a_killed_parent_interrupts_the_child(tmp_path: Path) -> None:
    python = program(tmp_path, CHILD.format(ended=str(tmp_path / "ended")))
    parent = (
        "import os\nfrom pathlib import Path\nfrom bench.places import Bench, Place\n"
        f"Bench('sqlite:////s.db', lambda _: os.kill(os.getpid(), 9)).extend(Place(Path({str(python)!r})), 'r', 3, ())"
    )
    assert subprocess.run([sys.executable, "-P", "-c", parent], timeout=60, check=False).returncode == -signal.SIGKILL
    assert ended_within(tmp_path / "ended", 20)


@pytest.mark.slow
def test_a_child_that_nobody_hears_is_interrupted(tmp_path: Path) -> None:
    def closed(line: str) -> None:
        raise BrokenPipeError

    place = Place(program(tmp_path, CHILD.format(ended=str(tmp_path / "ended"))))
    with pytest.raises(BrokenPipeError):
        Bench("sqlite:////s.db", closed).extend(place, "r", 3, ())
    assert ended_within(tmp_path / "ended", 20)


@pytest.mark.slow
def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="cannot be started"):
        Bench("sqlite:////s.db").extend(Place(tmp_path / "gone"), "r", 3, ())
