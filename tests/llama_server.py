"""Stands in for the `llama-server` program: takes the arguments and variables that we give it, refuses all others, and serves."""

import argparse
import os
import signal

from bench.engines.llamacpp_listener import Settings, make_server


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--list-devices", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--host", choices=["127.0.0.1"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--ctx-size", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--threads-batch", type=int)
    parser.add_argument("--device", choices=["none"])
    parser.add_argument("--n-gpu-layers", type=int)
    parser.add_argument("--no-webui", action="store_true")
    parser.add_argument("--flash-attn", choices=["on", "off"])
    parser.add_argument("--cache-type-k")
    parser.add_argument("--cache-type-v")
    parser.add_argument("--model-draft")
    parser.add_argument("--spec-type", choices=["draft-simple"])
    parser.add_argument("--spec-draft-n-max", type=int, default=0)
    parser.add_argument("--n-gpu-layers-draft", type=int)
    given = parser.parse_args()
    if given.list_devices:
        print("Available devices:")
        return
    cache = os.environ.get("LLAMA_ARG_CACHE_PROMPT") != "off"
    device = "cpu" if given.device == "none" else "cuda"
    context = given.ctx_size // given.parallel
    if given.cache_type_k != given.cache_type_v or (given.model_draft and not given.spec_type):
        parser.error("half a switch")
    settings = Settings(
        given.model, device, given.threads, given.parallel, context, cache, given.port, attention=given.flash_attn,
        kv_type=given.cache_type_k, draft=given.model_draft, draft_tokens=given.spec_draft_n_max,
    )  # fmt: skip
    _server = make_server(settings)
    signal.pause()


if __name__ == "__main__":
    main()
