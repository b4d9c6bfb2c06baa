"""`bench dashboard`: serves the dashboard on this machine, as a child process that ends with the command."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import click

from bench.commands.options import store_option

FIRST_PORT = 8501


@click.command()
@store_option
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port to serve on.  [default: a free one, {FIRST_PORT} first]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Let --host be an address that other machines reach. There is no authentication: who reaches it reads the store.",
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def dashboard(store_url: str, port: int | None, host: str, allow_remote: bool, no_browser: bool) -> int:
    """Look at the store in a browser. Ctrl-C ends it."""
    from results.errors import GemmeterError, UsageError
    from results.store import Store

    app = app_path()
    if not (allow_remote or is_loopback(host)):
        raise UsageError(
            f"{host} may be reached by other machines, and the dashboard asks nobody who they are: add --allow-remote."
        )
    Store.reading(store_url).close()
    chosen = port or free_port(host)
    if not is_free(host, chosen):
        raise UsageError(f"Port {chosen} on {host} cannot be had: give another with --port, or none to have a free one chosen.")
    click.echo(f"Dashboard at http://{bracketed(host)}:{chosen} (Ctrl-C ends it)")
    code = run_child(streamlit_command(app, host, chosen, headless=no_browser), environment(store_url, host))
    if code not in (0, 130):
        raise GemmeterError(f"The dashboard's server ended with exit code {code}: its last lines above say why.")
    return code


def app_path(needed: Sequence[str] = ("streamlit", "plotly", "pandas")) -> Path:
    """The file that Streamlit runs, found without importing it.

    Raises:
        UsageError: a needed package is not installed.
    """
    from importlib.util import find_spec

    from results.errors import UsageError

    if missing := [name for name in needed if find_spec(name) is None]:
        raise UsageError(f'The dashboard needs {", ".join(missing)}: run `pip install "gemmeter[dashboard]"`.')
    spec = find_spec("dashboard")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UsageError("The package `dashboard` is missing from this installation: install gemmeter again.")
    return Path(folders[0]) / "app.py"


def streamlit_command(app: Path, host: str, port: int, *, headless: bool) -> list[str]:
    """`-P` keeps a stray module in the working directory from shadowing ours; options here win over any config file."""
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": host,
        "client.toolbarMode": "viewer",
        "logger.hideWelcomeMessage": "true",
        "logger.level": "warning",
    }
    if headless:
        options["server.headless"] = "true"
    return [sys.executable, "-P", "-m", "streamlit", "run", str(app), *(f"--{key}={value}" for key, value in options.items())]


def environment(store_url: str, host: str, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The child's environment: the store, and options that older Streamlit versions do not know as flags."""
    from results.database import parse_url, sqlite_path

    path = sqlite_path(parse_url(store_url))
    defaults = {"STREAMLIT_SERVER_SHOW_EMAIL_PROMPT": "false"}
    if is_loopback(host):  # a foreign page whose name is made to point at this machine must not read the store
        defaults["STREAMLIT_SERVER_ALLOWED_HOSTS"] = f"localhost {host}"
    return defaults | dict(inherited) | {"BENCH_STORE": str(path.absolute()) if path else store_url}


def run_child(command: Sequence[str], env: dict[str, str], grace_s: float = 5.0) -> int:
    """Run a child until it ends, or until this process is interrupted or asked to end (130 then); it never outlives this call."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        end(child, grace_s)


def end(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """Ask a child to end, and end it after a grace period."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def free_port(host: str) -> int:
    """`FIRST_PORT`, or one of the next hundred that is free; else whatever the system gives."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        if is_free(host, port):
            return port
    with socket.socket(family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    with socket.socket(family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
