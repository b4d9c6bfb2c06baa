"""Where a side of a comparison is measured: an interpreter, whose packages are what is compared, a folder, variables, servers.

`bench run` goes on there as a child process. What is measured, and how often, is left to `bench.until_decided`.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.cache import cache_folder
from bench.servers import is_url
from monitor.processes import when_parent_ends
from results.database import MIGRATIONS
from results.errors import GemmeterError, NotComparableError, UsageError
from results.records import Report
from results.store import Store

ENTRY = "from bench.cli import main; main()"
PROBE = """
import json
from importlib.metadata import version
from pathlib import Path
import bench.cli, results
forms = Path(results.__file__).parent.joinpath("migrations", "versions").glob("[0-9]*.py")
print(json.dumps([version("gemmeter"), max(form.stem for form in forms)]))
"""
WORD = re.compile(r"(python|folder|server\.[^=]+)=.+|env\.[^=]+=.*", re.DOTALL)
GRAMMAR = "python=PATH, folder=PATH, env.NAME=VALUE or server.NAME=URL"


class PlaceError(GemmeterError):
    """A side could not be measured in its place."""


@dataclass(frozen=True)
class Place:
    """Where a side is measured: an interpreter, whose packages are what is compared, and a folder."""

    python: Path = Path(sys.executable)
    folder: Path | None = None
    """Of a checkout; `None`: the current one."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, set for this side alone."""
    servers: Mapping[str, str] = field(default_factory=dict)
    """URLs by name, for this side alone."""


def parse_place(text: str, option: str) -> Place:
    """`python=/venv/bin/python folder=../main env.OMP_WAIT_POLICY=active` (any of them, in any order) as a place.

    Raises:
        UsageError: unknown keys, a file that is no interpreter or has no gemmeter, no such folder; the message begins with `option`.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option}: {str(error).lower()}: quote values that hold spaces, such as env.X='a b'.") from error
    found: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not WORD.fullmatch(word) or (key.startswith("server.") and not is_url(value)):
            shown = f"{key}=…" if value else word  # the value may be a secret, under a misspelt key
            raise UsageError(f"{option}: {shown!r} is not understood: write {GRAMMAR}.")
        if key in found:
            raise UsageError(f"{option}: {key} is given twice: leave one of the two out.")
        found[key] = value
    place = Place(
        python=_interpreter(found.get("python", sys.executable), option),
        folder=_folder(found["folder"], option) if "folder" in found else None,
        variables={key.removeprefix("env."): value for key, value in found.items() if key.startswith("env.")},
        servers={key.removeprefix("server."): value for key, value in found.items() if key.startswith("server.")},
    )
    _check_gemmeter(place, option)
    return place


def _interpreter(text: str, option: str) -> Path:
    path = shutil.which(str(Path(text).expanduser()))
    if path is None:
        raise UsageError(f"{option}: there is no program {text}: name the Python of an environment, such as .venv/bin/python.")
    return Path(path).absolute()  # not resolved: an environment is found by the link to its interpreter


def _folder(text: str, option: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise UsageError(f"{option}: there is no folder {text}: name one that exists, such as another checkout.")
    return path


def _check_gemmeter(place: Place, option: str) -> None:
    """Both sides write into one store, so both must know its form."""
    try:
        done = subprocess.run(
            (place.python, "-P", "-c", PROBE),
            cwd=place.folder,
            env=_environment(place),
            capture_output=True,
            text=True,
            timeout=60,
        )
        version, form = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = done.stderr.strip().splitlines()[-1:] if isinstance(error, ValueError) else [str(error)]
        raise UsageError(
            f"{option}: {place.python} is no Python with this gemmeter installed ({' '.join(said) or 'it said nothing'}): install it "
            "there, or name another with python=PATH."
        ) from error
    mine = max(path.stem for path in MIGRATIONS.joinpath("versions").glob("[0-9]*.py"))
    if form != mine:
        raise UsageError(
            f"{option}: gemmeter {version} of {place.python} keeps its store in another form ({form}, here {mine}): "
            "install this gemmeter there too."
        )


def _environment(place: Place) -> dict[str, str]:
    return {**os.environ, "BENCH_CACHE": str(cache_folder()), **place.variables}


@dataclass(frozen=True)
class Bench:
    """Runs `bench run` in places, all against one store.

    Attributes:
        store_url: the same from every folder.
        heard: told what the child says on standard error, line by line.
    """

    store_url: str
    heard: Callable[[str], None] = lambda _: None

    def start(self, place: Place, suite: str, settings: tuple[str, ...], seed: int, paired_with: str | None) -> str:
        """Measure a suite in one process of each case; the new run's id.

        Raises:
            UsageError, NotComparableError, PlaceError: as the command ended.
            KeyboardInterrupt: a signal came; what was measured is stored.
        """
        more = ("--paired-with", paired_with) if paired_with else ()
        return self._run(place, suite, *(f"--set={one}" for one in (*settings, "processes=1")), f"--seed={seed}", *more)

    def extend(self, place: Place, run_id: str, processes: int, case_ids: tuple[str, ...]) -> None:
        """Measure these cases of a run until each has so many processes.

        Raises:
            UsageError, NotComparableError, PlaceError, KeyboardInterrupt: as `start`.
        """
        self._run(place, "--extend", run_id, f"--processes={processes}", *(f"--case={one}" for one in case_ids))

    def report(self, run_id: str) -> Report:
        with Store.reading(self.store_url) as store:
            return store.report(run_id)

    def _run(self, place: Place, *arguments: str) -> str:
        servers = (f"--server={name}={url}" for name, url in place.servers.items())
        command = (str(place.python), "-P", "-c", ENTRY, "run", *arguments, *servers, "--json")
        environment = _environment(place) | {"BENCH_STORE": self.store_url}
        with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
            try:
                child = subprocess.Popen(
                    command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.PIPE,
                    text=True, encoding="utf-8", errors="replace", process_group=0,
                    preexec_fn=when_parent_ends(signal.SIGTERM),  # noqa: PLW1509 it makes one system call, and nothing of Python's
                )  # fmt: skip
            except OSError as error:
                raise PlaceError(f"{place.python} cannot be started: {error.strerror}.") from error
            words, code = self._listen(child)
            told.seek(0)
            return _run_id(told.read(), words, code)

    def _listen(self, child: subprocess.Popen[str]) -> tuple[list[str], int]:
        """What it said and its exit code. A signal to us is one to it: it stores what it has before it ends."""
        words: list[str] = []
        interrupted = False
        while True:
            try:
                for line in child.stderr or ():
                    words.append(line.rstrip("\n"))
                    if not line.startswith("Error: "):
                        self.heard(words[-1])
                code = child.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
                child.terminate()
            except BaseException:  # nobody hears it any more
                child.terminate()
                raise
        if child.stderr:
            child.stderr.close()
        if interrupted or code == 130:
            raise KeyboardInterrupt
        return words, code


def _run_id(told: str, words: list[str], code: int) -> str:
    """The id in what `bench run --json` printed, failures of cases or not; else the error that it ended with."""
    if code in (0, 5) and told.strip():
        return str(json.loads(told)["run_id"])
    message = next((line.removeprefix("Error: ") for line in reversed(words) if line.startswith("Error: ")), None)
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    error = {2: UsageError, 4: NotComparableError}.get(code, PlaceError)
    raise error(message or f"bench run ended {how} and no result: {' '.join(words[-1:]) or 'it said nothing'}.")
