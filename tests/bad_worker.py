"""A stand-in for the worker that speaks its protocol with the standard library only, and goes wrong as its argument says."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

MODE = sys.argv[1]


def send(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def ask(event: str, **facts: object) -> None:
    send(event, **facts)
    if not sys.stdin.readline():
        os._exit(1)


def request(index: int) -> dict[str, object]:
    return {
        "request_id": f"q{os.getpid()}-{time.perf_counter_ns()}-{index}",
        "index": index,
        "prompt_index": 0,
        "sent_at": "2026-03-01T12:00:00Z",
        "scheduled_s": 0.0,
        "sent_s": 0.0,
        "first_content_s": 0.1,
        "last_content_s": 0.2,
        "event_times_s": [0.1, 0.2],
        "event_tokens": [1, 1],
        "prompt_tokens": 4,
        "output_tokens": 2,
    }


def go_wrong() -> None:
    """Called inside the second case, after its first request."""
    if MODE == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if MODE == "exit 3":
        print("\x1b[31mthe engine's last words\x1b[0m", file=sys.stderr)
        os._exit(3)
    if MODE == "exit 0":
        os._exit(0)
    if MODE == "rubbish":
        print("Loading checkpoint shards: 100%", flush=True)
        time.sleep(60)
    if MODE == "endless line":
        while True:
            sys.stdout.write("x" * 2**20)
    if MODE == "hang":
        time.sleep(60)
    if MODE == "no requests":
        ask("case_done", timing="perf_counter", values={}, warnings=[])
        time.sleep(60)
    if MODE == "wrong case":
        ask("case_started", case_id="c1-other", origin=0.0)
        time.sleep(60)
    if MODE == "wrong event":
        send("request", request={"index": "many"})
        time.sleep(60)
    if MODE == "unknown kind":
        send("failed", kind="kaput", message="?")
        time.sleep(60)
    if MODE == "infinite progress":
        print('{"event": "phase", "phase": "measure", "done": Infinity, "total": 1}', flush=True)
        time.sleep(60)
    if MODE == "uneven request":
        send("request", request=request(1) | {"event_tokens": [1]})
        time.sleep(60)
    if MODE == "same request":
        send("request", request=request(0) | {"request_id": "once"})
        send("request", request=request(0) | {"request_id": "once"})
        time.sleep(60)
    if MODE == "chatter":
        while True:
            send("phase", phase="measure", done=0, total=1)
    if MODE == "says oom":
        send("failed", kind="oom", message="Memory ran out: choose a smaller model.")
        send("bye")
        os._exit(0)
    if MODE == "eats memory":
        held = []
        while True:
            held.append(bytearray(2**20))
            time.sleep(0.005)
    if MODE == "child eats memory":
        hungry = "import time\nheld = []\nwhile True: held.append(bytearray(2**20)); time.sleep(0.005)"
        subprocess.run([sys.executable, "-c", hungry], stdout=subprocess.DEVNULL)
    if MODE == "segfault":
        ctypes.string_at(0)
    if MODE == "abort":
        print("GGML_ASSERT(n_tokens > 0) failed", file=sys.stderr, flush=True)
        os.abort()
    if MODE == "bad alloc":
        ctypes.CDLL("libstdc++.so.6")._ZSt17__throw_bad_allocv()
    if MODE == "server out of memory":
        print("ggml_backend_alloc: failed to allocate CPU buffer of size 206158430208", file=sys.stderr, flush=True)
        send("failed", kind="crash", message="The server ended with exit code 1.")
        time.sleep(60)
    if MODE == "server killed":
        send("failed", kind="crash", message="The server was killed by signal 9 (SIGKILL).")
        time.sleep(60)
    if MODE == "holds the GIL":
        ctypes.PyDLL(None).sleep(60)
    if MODE == "grandchild":
        sleeper = [sys.executable, "-c", "import time; time.sleep(120)"]
        child = subprocess.Popen(sleeper, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"grandchild {child.pid}", file=sys.stderr, flush=True)
        time.sleep(60)


job = json.loads(sys.stdin.readline())
send("hello", pid=os.getpid())
if MODE == "dies at load":
    os._exit(7)
if MODE == "hangs at load":
    time.sleep(60)
if MODE == "environment":
    print(" ".join(sorted(os.environ)), file=sys.stderr)
ask("phase", phase="load", done=0, total=1)
if MODE == "eats at load":
    eaten = bytearray(b"x" * 150 * 2**20)
    time.sleep(60)
if MODE == "hangs at first call":
    ask("phase", phase="first call", done=0, total=1)
    time.sleep(60)
refused = MODE == "refuses the second"
if refused:
    ask("refused", case_id=os.environ["TEST_CASE_IDS"].split()[1], message="no such switch: leave it out.")
if MODE in ("segfault", "abort"):
    print("a pool of another phase was out of memory", file=sys.stderr, flush=True)
ask("loaded", values={"load_s": 1.5})
for number, _ in enumerate(job["cases"]):
    if refused and number == 1:
        continue
    if number == 1 and MODE == "hangs at begin":
        ask("phase", phase="prepare", done=0, total=1)
        time.sleep(60)
    if number == 1 and MODE == "refuses at begin":
        ask("refused", case_id=os.environ["TEST_CASE_IDS"].split()[1], message="no such switch: leave it out.")
        continue
    ask("case_started", case_id=os.environ["TEST_CASE_IDS"].split()[number], origin=time.perf_counter())
    ask("phase", phase="measure", done=0, total=1)
    if not (number == 1 and MODE == "no requests"):
        ask("request", request=request(0))
    if number == 1:
        go_wrong()
    values = {"weights_bytes": 10.0} | ({"client_peak_rss_bytes": 1e12} if MODE == "knows its peak" else {})
    ask("case_done", timing="perf_counter", values=values, warnings=[])
send("bye")
