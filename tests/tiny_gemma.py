"""A tiny real Gemma 3 with seeded random weights and a real tokenizer, in Hugging Face format or as a GGUF file."""

import json
import struct
from pathlib import Path
from typing import Any

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = [*"▁etaoinshrdlucmfwypvbgkjxqz.,?!", *"ETAOINSHRDLUCMFWYPVBGKJXQZ"]
VOCABULARY = SPECIAL + BYTES + LETTERS  # without merges: what it says re-tokenizes to as many tokens
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


CONFIG: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8, "max_position_embeddings": 2048,
    "layer_types": ["sliding_attention", "full_attention"], "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def make_gemma_files(folder: Path) -> Path:
    """The files of a tiny Gemma 3 that can be planned with and not loaded, made without torch, which takes seconds to import."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], **CONFIG})
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    save_file({"model.norm.weight": np.ones(CONFIG["hidden_size"], dtype=np.float32)}, folder / "model.safetensors")
    return folder


def make_tiny_gemma(folder: Path, *, seed: int = 0, chat: bool = False, eos_bias: bool = False) -> Path:
    """Two layers, 32 wide, 320 tokens, sliding window of 8.

    Args:
        chat: a chat template comes with the tokenizer.
        eos_bias: greedy decoding emits the end of sequence at once; without it, never.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(chat).save_pretrained(folder)
    tiny_model(seed, eos_bias=eos_bias).save_pretrained(folder)
    return folder


def _tokenizer(chat: bool) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    tokenizer = GemmaTokenizer(vocab={token: number for number, token in enumerate(VOCABULARY)})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(seed: int = 0, *, eos_bias: bool = False, says: str = "", **changes: Any) -> Any:
    """
    Args:
        says: a text that it repeats byte by byte whatever the prompt is, by a head of its own.
    """
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(**CONFIG | {"tie_word_embeddings": not says} | changes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Gemma3ForCausalLM(config)
        for name, parameter in model.named_parameters():
            if not name.endswith("norm.weight"):
                parameter.normal_(std=0.2)
        embedding = model.get_input_embeddings().weight
        embedding[: len(SPECIAL) + len(BYTES)] *= 0.1  # so that it says letters
        embedding[1] = 0.0
        if eos_bias:  # all hidden states lean along the first axis, and the end of sequence lies furthest along it
            embedding[:, 0] = 2.0
            embedding[1, 0] = 20.0
        if says:  # each layer adds nothing, so that the head sees the last token alone
            for name, parameter in model.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    parameter.zero_()
            cycle = [len(SPECIAL) + byte for byte in says.encode()]
            embedding[:] = embedding.normal_(std=0.2)
            embedding[:, 0] = 1.0
            model.lm_head.weight.zero_()
            for token, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                model.lm_head.weight[following] = 10 * embedding[token]
    return model.eval()


def make_tiny_gguf(path: Path, *, seed: int = 0, says: str = "") -> Path:
    """The same model with sliding attention only (such a file does not say which layers slide) as GGUF of q8_0 precision."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("Tiny Gemma")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(2048)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(8)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(VOCABULARY)
    writer.add_token_scores([-float(number) for number in range(len(VOCABULARY))])
    kinds = [3] * len(SPECIAL) + [6] * len(BYTES) + [1] * len(LETTERS)  # control, byte, normal
    writer.add_token_types(kinds)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 2)
    for name, tensor in tiny_model(seed, says=says).state_dict().items():
        if name == "lm_head.weight" and not says:
            continue
        data = tensor.numpy().astype(np.float32)
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        if data.ndim == 1:
            writer.add_tensor(gguf_name, data + 1 if name.endswith("norm.weight") else data)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name, gguf.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_header(
    file_type: int | None = 15, *, chat: bool = False, shapes: tuple[tuple[int, ...], ...] = ((4, 8), (16,))
) -> bytes:  # fmt: skip
    """What a GGUF file begins with, its tensors' data left out; `file_type` 15 is q4_k_m."""
    pairs = [_text("general.architecture") + struct.pack("<I", 8) + _text("gemma3")]
    pairs += [_text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + _text("<pad>") + _text("é") + _text("")]
    pairs += [_text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 0, -1, -2)]
    if file_type is not None:
        pairs += [_text("general.file_type") + struct.pack("<II", 4, file_type)]
    if chat:
        pairs += [_text("tokenizer.chat_template") + struct.pack("<I", 8) + _text("{{ messages }}")]
    tensors = [
        _text(f"blk.{number}.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)
        for number, shape in enumerate(shapes)
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors)
