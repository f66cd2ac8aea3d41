"""The leading directions of a codec's latents: what a row stores where it stores a part of each latent's values.

Standardised latents do not fill their width evenly. Those directions in which they move most are found on many of them,
and stored with the codec: another codec, with an identity of its own, on the same backbone with the same adapters.
Shapes: N latents, D hidden width, R directions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file

from model.codec_folder import TENSORS, read_settings
from model.codec_io import write_variant
from model.config import CodecConfig
from model.rate import BLOCK, LEADING, STANDARDISED
from model.refusal import Refusal

DIRECTIONS = "directions"  # the tensor in a codec folder


def leading_directions(standard_ND: torch.Tensor, rank: int) -> torch.Tensor:
    """bfloat16 [R, D], orthonormal rows: no others keep more of these latents' squared length. The largest first."""
    squares_DD = (standard_ND.double().T @ standard_ND.double()) / len(standard_ND)
    _, turned_DD = torch.linalg.eigh(squares_DD)  # rising
    return turned_DD.flip(1)[:, :rank].T.contiguous().to(torch.bfloat16)


def require_rank(rank: int, settings: dict) -> None:
    """Raises Refusal for a number of directions that the codec of these settings cannot store."""
    width, held = settings["hidden_width"], settings["config"]["quantiser"]
    if held != STANDARDISED:
        raise Refusal(f"its latents are stored along the leading directions already, as {held}: start from all of them")
    if rank % BLOCK or not BLOCK <= rank <= width:
        raise Refusal(f"rank is {rank}; it must be a multiple of {BLOCK} up to the latents' width, {width}")


def add_directions(codec_folder: str | Path, directions_RD: torch.Tensor, out: str | Path) -> Path:
    """Write the codec that stores latents along these directions to a new folder. Raises Taken, and Refusal."""
    settings = read_settings(codec_folder)
    require_rank(len(directions_RD), settings)
    config = CodecConfig.from_dict(settings["config"])
    config = dataclasses.replace(config, quantiser=f"{LEADING}{len(directions_RD)}")
    tensors = load_file(Path(codec_folder, TENSORS)) | {DIRECTIONS: directions_RD}
    return write_variant(codec_folder, out, tensors, config)
