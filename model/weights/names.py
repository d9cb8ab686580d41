"""Parameter names: the network's own (published) ones and their translations.

Own names are those of Wan2.2-S2V and CoInteract. Two foreign spellings are translated both ways:
a plain network's FFN (``ffn.0``) in one with experts (``ffn.ffn_base.0``), and diffusers' Wan T2V.
Source: diffusers scripts/convert_wan_to_diffusers.py (T2V part of the mapping).
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from schemas.errors import ConfigError

Naming: TypeAlias = Literal["wan", "diffusers"]

_PREFIXES = ("module.", "diffusion_model.", "base_model.model.")
_DIFFUSERS: tuple[tuple[str, str], ...] = (
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("head.head.", "proj_out."),
    ("head.modulation", "scale_shift_table"),
    ("patch_embedding.", "patch_embedding."),
)
_DIFFUSERS_BLOCK: tuple[tuple[str, str], ...] = (
    ("self_attn.o.", "attn1.to_out.0."),
    ("self_attn.norm_", "attn1.norm_"),
    ("self_attn.", "attn1.to_"),
    ("cross_attn.o.", "attn2.to_out.0."),
    ("cross_attn.norm_", "attn2.norm_"),
    ("cross_attn.", "attn2.to_"),
    ("ffn.0.", "ffn.net.0.proj."),
    ("ffn.2.", "ffn.net.2."),
    ("norm3.", "norm2."),
    ("modulation", "scale_shift_table"),
)
_BLOCK = re.compile(r"(blocks\.\d+\.)(.*)")
_BASE_FFN = re.compile(r"(blocks\.\d+\.ffn\.)ffn_base\.")
_PLAIN_FFN = re.compile(r"(blocks\.\d+\.ffn\.)(?=[02]\.)")
_COGEN = re.compile(r"depth_|\.router\.|_expert\.")
_LORA = re.compile(r"\.lora_([AB])(\.default)?\.weight$")


def strip_prefix(name: str) -> str:
    """Remove wrappers' prefixes and adapters' ``base_layer``.

    >>> strip_prefix("diffusion_model.blocks.0.self_attn.q.base_layer.weight")
    'blocks.0.self_attn.q.weight'
    """
    while name.startswith(_PREFIXES):
        name = next(name.removeprefix(p) for p in _PREFIXES if name.startswith(p))
    return name.replace(".base_layer.", ".")


def is_diffusers(name: str) -> bool:
    """Whether a name is spelt as in diffusers and not in Wan."""
    return name.startswith(("condition_embedder.", "proj_out.")) or ".attn1." in name


def is_cogen(name: str) -> bool:
    """Whether a parameter belongs to the HOI branch, a router or an expert."""
    return _COGEN.search(name) is not None


def lora_part(name: str) -> tuple[str, str] | None:
    """Split a LoRA tensor's name into the weight that it changes and ``A`` or ``B``.

    >>> lora_part("blocks.0.ffn.0.lora_A.default.weight")
    ('blocks.0.ffn.0.weight', 'A')
    """
    found = _LORA.search(name)
    return None if found is None else (name[: found.start()] + ".weight", found.group(1))


def to_own(name: str, *, naming: Naming = "wan", has_moe: bool = False) -> str:
    """Translate a stored name into the name in a network with or without experts.

    Raises:
        ConfigError: A diffusers name outside Wan T2V.

    >>> to_own("blocks.0.attn1.to_q.weight", naming="diffusers")
    'blocks.0.self_attn.q.weight'
    >>> to_own("blocks.0.ffn.2.bias", has_moe=True)
    'blocks.0.ffn.ffn_base.2.bias'
    """
    name = strip_prefix(name)
    if naming == "diffusers":
        name = _translate(name, source=1)
    if has_moe:
        return _PLAIN_FFN.sub(r"\1ffn_base.", name)
    return _BASE_FFN.sub(r"\1", name)


def from_own(name: str, *, naming: Naming = "wan") -> str:
    """Translate a backbone parameter's own name into a plain network's stored name.

    Raises:
        ConfigError: The naming has no word for it (a co-generation part, or speech in diffusers).

    >>> from_own("blocks.0.norm3.weight", naming="diffusers")
    'blocks.0.norm2.weight'
    """
    if is_cogen(name):
        raise ConfigError(f"{name} is no part of the plain backbone")
    name = _BASE_FFN.sub(r"\1", name)
    return _translate(name, source=0) if naming == "diffusers" else name


def _translate(name: str, source: int) -> str:
    """Translate between Wan (column 0) and diffusers (column 1)."""
    block = _BLOCK.fullmatch(name)
    head, rest = (block.group(1), block.group(2)) if block else ("", name)
    for pair in _DIFFUSERS_BLOCK if block else _DIFFUSERS:
        if rest.startswith(pair[source]):
            return head + pair[1 - source] + rest.removeprefix(pair[source])
    raise ConfigError(f"{name} has no counterpart in the Wan T2V naming of diffusers")
