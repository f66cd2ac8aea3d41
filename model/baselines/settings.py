"""Which systems `nextmem train --system NAME` trains, each as the settings that make it; a person's own come on top.

Two of them are codecs: the In-context Autoencoder (ICAE, arXiv 2307.06945) is a codec with parallel latents.
"""

from __future__ import annotations

from model.refusal import Refusal
from model.training.curriculum import TrainConfig

SYSTEMS: dict[str, dict[str, object]] = {
    "nextmem": {},
    # LoRA on q and v of the encoder, a frozen decoder that reads the slots as they are, all of them from the start
    "icae": {
        "latents": "parallel", "latent_gain": "raw", "lora_targets": "q_proj,v_proj", "lora_rank": 64,
        "stages": "2", "curriculum": "all_at_once", "trains": "encoder_marker", "substage_steps": 1,
        "learning_rate": 1e-4,
    },
    # All that a codec has but one thing: its latents come out of one forward. Says what feeding them back is worth
    "icae-ours": {"latents": "parallel"},
    # DyPRAG (arXiv 2503.23895): a text's last state becomes a low-rank difference of the backbone's weights
    "dyprag": {"stages": "1", "learning_rate": 1e-5},  # towards a LoRA of each passage, as published
    "dyprag-ours": {"stages": "1", "learning_rate": 1e-3},  # end to end, towards the passage
}  # fmt: skip
DYPRAG = ("dyprag", "dyprag-ours")


def system_settings(name: str) -> dict[str, object]:
    """Values of TrainConfig and CodecConfig by name. Refusal for a system that is not there."""
    if name not in SYSTEMS:
        raise Refusal(f"there is no system {name!r} to train; there are head, reader, {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def require_trainable(name: str, train: TrainConfig, init: str | None) -> None:
    """Refuse what a translator of DyPRAG has no use for, rather than pass it over."""
    if name not in DYPRAG:
        return
    if train.stages != "1":
        raise Refusal(f"{name} has one stage, not {train.stages!r}: leave out --stage")
    if init is not None:
        raise Refusal(f"{name} starts from nothing: leave out --init")
    for key in ("compile_layers", "shard_backbone", "gradient_checkpointing"):
        if getattr(train, key):
            raise Refusal(f"{name} is not trained with {key}: leave it out")
