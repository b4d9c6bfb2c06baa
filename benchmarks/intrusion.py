"""What the load client takes from the server that it measures: tokens/s under it against those under a bare client.

    python benchmarks/intrusion.py [FILE] [--url URL --model NAME] [--streams 2] [--tokens 128] [--requests 1] [--pairs 9]

FILE is a GGUF for a llama.cpp server of our own on this machine; without one the prepared Gemma 3 270M is used. With a URL, the
OpenAI-compatible server there is asked instead. The bare client is http.client in threads that read lines and do nothing else. The
two take turns, and the order of each pair is random. The goal is a median ratio of at least 0.97 with two streams.
"""

import argparse
import http.client
import random
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.client_protocol import Item, Job, Phase
from bench.engines.protocol import Server, Source
from bench.load_clients import LoadClients
from bench.load_requests import LoadSession
from bench.workloads import Prompt, load_prompts, speed_prompt
from monitor.http import Endpoint
from results.cases import Case, Load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--model", default="")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--requests", type=int, default=1, help="of each stream in a turn")
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    session = connected(options)
    endpoint = session.endpoint("plain")
    job = Job(endpoint.url, dict(endpoint.headers), session.dialect("plain"), 600.0, retries=0, give_up_after=1)
    count = options.streams * options.requests
    ratios: list[float] = []
    try:
        with LoadClients(1, job, time.perf_counter) as clients:
            for pair in range(-1, options.pairs):  # the first is a warm-up
                rates = {}
                for turn, client in enumerate(random.sample(["ours", "bare"], 2)):
                    asked = [prompt(session, (2 * (pair + 1) + turn) * count + number) for number in range(count)]
                    bodies = [session.body(one, options.tokens, "length") for one in asked]
                    seconds = (
                        ours(clients, bodies, options.streams) if client == "ours" else bare(endpoint, bodies, options.streams)
                    )
                    rates[client] = count * options.tokens / seconds
                if pair >= 0:
                    ratios.append(rates["ours"] / rates["bare"])
                    print(f"pair {pair + 1}: {rates['ours']:.1f} tokens/s under ours, {rates['bare']:.1f} under the bare client")
    finally:
        session.close()
    print(f"ours / bare: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def connected(options: argparse.Namespace) -> LoadSession:
    """The session with the server."""
    load = Load(arrivals="closed", concurrency=options.streams)
    if options.url:
        from bench.engines.openai import OpenAI

        return OpenAI().load(Source(server=Server("given", options.url), model=options.model), case("remote", "as served", load))
    from bench.engines.llamacpp import LlamaCppServer
    from bench.gguf_header import read_header
    from bench.weights import prepare, resolve

    file = options.file or prepare(resolve("gemma-3-270m", "benchmark"), lambda *_: None, "gguf")
    return LlamaCppServer().load(Source(file, context_tokens=1024), case("cpu", read_header(file).stored, load))


def case(device: str, quantization: str, load: Load) -> Case:
    return Case(
        weights="sha256:0", engine="openai", device=device, dtype="fp32", quantization=quantization, workload="p", output_tokens=1,
        slots=load.concurrency, load=load,
    )  # fmt: skip


def prompt(session: LoadSession, number: int) -> Prompt:
    return speed_prompt(load_prompts("five-questions"), number, "1.1", None, "plain", session.encode, session.decode)


def ours(clients: LoadClients, bodies: Sequence[bytes], streams: int) -> float:
    """Seconds from the first request that is sent to the last end."""
    items = tuple(Item(number, body.decode()) for number, body in enumerate(bodies))
    sent, _ = clients.run([Phase(items, (0.0,) * streams, at_least=len(items))], lambda *_: None, no_turn)
    if failed := [one.answer.error for one in sent if one.answer.error]:
        raise SystemExit(f"a request failed: {failed[0]}")
    return max(one.ended for one in sent) - min(one.sent for one in sent)


def bare(endpoint: Endpoint, bodies: Sequence[bytes], streams: int) -> float:
    """The same with as little as there can be."""
    url = urlsplit(endpoint.url)
    begun, ended = [], []
    headers = {"Content-Type": "application/json", **endpoint.headers}

    def stream(mine: Sequence[bytes]) -> None:
        for body in mine:
            connection = http.client.HTTPConnection(url.hostname or "", url.port)
            connection.request("POST", url.path, body, headers)
            begun.append(time.perf_counter())
            for _ in connection.getresponse():
                pass
            ended.append(time.perf_counter())
            connection.close()

    threads = [threading.Thread(target=stream, args=(bodies[number::streams],)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(ended) - min(begun)


def no_turn(number: int, answer: str) -> bytes:
    raise ValueError("no conversations here")


if __name__ == "__main__":
    main()
