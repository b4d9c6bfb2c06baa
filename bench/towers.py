"""What the multimodal members of the Gemma family see and hear with, from their configurations: loaded even for text alone.

Shapes are those of `modeling_siglip.py`, `modeling_gemma3n.py` and `modeling_gemma4*.py` in transformers 5.
"""

from collections.abc import Mapping
from typing import Any

from bench.dimensions import Part, linear

Config = Mapping[str, Any]
TIMM = {"mobilenetv5_300m_enc": 294_126_912}
"""Numbers in towers that the package timm builds, by name."""


def towers(config: Config, hidden: int) -> Part | None:
    """Of vision and audio with what projects them into a text model of this width; `None`: not understood.

    Args:
        config: of the whole model; a `text_config` of its own means that it may have towers.
    """
    if "text_config" not in config:
        return Part()
    family = config.get("model_type")
    vision, audio = config.get("vision_config"), config.get("audio_config")
    if family == "gemma3":
        return _siglip(vision or {}, hidden)
    if family == "gemma3n":
        return _gemma3n(vision or {}, audio or {}, hidden)
    if family == "gemma4":
        return (_gemma4_vision(vision, hidden) if vision else Part()) + (_gemma4_audio(audio, hidden) if audio else Part())
    if family == "gemma4_unified":
        return (_unified_vision(vision, hidden) if vision else Part()) + (
            linear(hidden, audio.get("audio_embed_dim", 640)) if audio else Part()
        )
    return None


def _siglip(config: Config, hidden: int) -> Part:
    width, inner = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    patch, side = config.get("patch_size", 16), config.get("image_size", 224)
    attention = linear(width, width, bias=True, copies=4)
    mlp = linear(inner, width, bias=True) + linear(width, inner, bias=True)
    layers: int = config.get("num_hidden_layers", 12)
    found = (attention + mlp + Part(others=4 * width)) * layers
    found += Part(others=width * (3 * patch**2 + 1) + (side // patch) ** 2 * width + 2 * width)
    if config.get("vision_use_head", True):
        found += Part(others=width + 3 * width * (width + 1) + 2 * width) + linear(width, width, bias=True) + mlp
    return found + Part(others=width * hidden + width)


def _gemma3n(vision: Config, audio: Config, hidden: int) -> Part | None:
    tower = TIMM.get(vision.get("architecture", "mobilenetv5_300m_enc"))
    if tower is None:
        return None
    found = Part(others=tower)
    for config, width in ((vision, vision.get("hidden_size", 2048)), (audio, audio.get("hidden_size", 1536))):
        found += linear(hidden, width) + Part(others=config.get("vocab_size", 128) * width + 2 * width)
    return found + _conformer(
        audio.get("hidden_size", 1536),
        audio.get("conf_num_hidden_layers", 12),
        audio.get("conf_num_attention_heads", 8),
        audio.get("conf_conv_kernel_size", 5),
        audio.get("sscp_conv_channel_size", (128, 32)),
        audio.get("input_feat_size", 128),
    )


def _gemma4_audio(config: Config, hidden: int) -> Part:
    width, out = config.get("hidden_size", 1024), config.get("output_proj_dims", 1536)
    found = _conformer(
        width,
        config.get("num_hidden_layers", 12),
        config.get("num_attention_heads", 8),
        config.get("conv_kernel_size", 5),
        config.get("subsampling_conv_channels", (128, 32)),
        128,
    )
    return found + linear(out, width, bias=True) + linear(hidden, out)


def _conformer(width: int, layers: int, heads: int, kernel: int, channels: Any, features: int) -> Part:
    """Google's Universal Speech Model: convolutions that shorten the sound fourfold, then conformer layers."""
    first, second = channels
    start = Part(others=9 * first + first + 9 * first * second + second) + linear(width, second * features // 4)
    feed_forward = linear(4 * width, width) + linear(width, 4 * width) + Part(others=2 * width)
    attention = linear(width, width, copies=5) + Part(others=width // heads + 2 * width)
    convolution = linear(2 * width, width) + linear(width, width) + Part(others=kernel * width + 2 * width)
    return start + (feed_forward * 2 + attention + convolution + Part(others=width)) * layers


def _gemma4_vision(config: Config, hidden: int) -> Part:
    width, inner = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    heads, head = config.get("num_attention_heads", 12), config.get("head_dim", 64)
    keys = config.get("num_key_value_heads", 12)
    layer = linear(heads * head, width) + linear(keys * head, width, copies=2) + linear(width, heads * head)
    layer += linear(inner, width, copies=2) + linear(width, inner) + Part(others=4 * width + 2 * head)
    patches = Part(others=2 * config.get("position_embedding_size", 10240) * width)
    patches += linear(width, 3 * config.get("patch_size", 16) ** 2)
    layers: int = config.get("num_hidden_layers", 16)
    return layer * layers + patches + linear(hidden, width)


def _unified_vision(config: Config, hidden: int) -> Part:
    """Patches of an image are projected straight into the embeddings."""
    width = config.get("mm_embed_dim", 3840)
    pixels = 3 * (config.get("patch_size", 16) * config.get("pooling_kernel_size", 3)) ** 2
    tables = Part(others=2 * pixels + 4 * width + 2 * config.get("mm_posemb_size", 1120) * width)
    return linear(width, pixels, bias=True) + tables + linear(hidden, config.get("output_proj_dims", 3840))
