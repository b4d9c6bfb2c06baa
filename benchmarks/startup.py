"""How long `bench --help` takes against a bare interpreter, and that it imports nothing heavy.

    python benchmarks/startup.py [--pairs 15] [--busy]

The two take turns. `--busy` keeps every CPU occupied meanwhile. The goal is 0.3 s on two busy cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

HEAVY = ("torch", "transformers", "pandas", "scipy", "sqlalchemy", "pydantic", "streamlit", "plotly")
HELP = "import sys; sys.argv = ['bench', '--help']; from bench.cli import main; main()"


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) if options.busy else 0)
    ]
    try:
        seconds("-c", HELP), seconds("-c", "pass")
        pairs = [(seconds("-c", HELP), seconds("-c", "pass")) for _ in range(options.pairs)]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    helps, bares = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"bench --help {statistics.median(helps):.3f} s, a bare interpreter {statistics.median(bares):.3f} s: ratio {ratio:.2f}"
    )
    look = "import atexit, sys; atexit.register(lambda: print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)); "
    command = [sys.executable, "-P", "-c", look.format(heavy=HEAVY) + HELP]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    print(f"heavy modules imported: {found.strip() or 'none'}")


if __name__ == "__main__":
    main()
