"""A codec as a folder: codec.json, codec.safetensors and tokenizer.json, never pickle. Whole or not there.

`Codec.identity` is a hash over everything that decides what a latent means: the backbone's weights and tokenizer, the
configuration and every tensor. Two codecs with one identity read each other's banks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.backbone import Backbone, load_backbone
from model.codec import Codec
from model.codec_folder import FORMAT_VERSION, SETTINGS, TENSORS, TOKENIZER, file_hash, read_settings
from model.config import ADAPTERS, CodecConfig, VerifyConfig
from model.finite import require_finite
from model.gain import LatentGain
from model.head import head_of
from model.memory import Statistics
from model.refusal import Refusal, Taken
from model.tokens import TextTokenizer


def save_codec(codec: Codec, folder: str | Path) -> Path:
    """Write the codec whole: into a temporary folder beside it, then renamed. Refuses to replace another folder.

    ValueError for a codec whose adapters are merged: they are no more to be had.
    """
    if codec.merged is not None:
        raise ValueError("this codec's adapters are merged with its backbone; load it without `verifying` to save it")
    return write_folder(Path(folder), _tensors(codec), codec.tokenizer, _settings(codec))


def write_folder(folder: Path, tensors: dict[str, torch.Tensor], tokenizer: TextTokenizer, settings: dict) -> Path:
    """A codec folder of its parts; `settings` are all but the tensors' hash. Raises Taken."""
    if folder.exists():
        raise Taken(f"{folder} exists already; name a new folder for the codec")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_file(tensors, temporary / TENSORS)
        tokenizer.save(temporary / TOKENIZER)
        settings = settings | {"tensors_sha256": file_hash(temporary / TENSORS)}
        (temporary / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        os.chmod(temporary, 0o755)
        os.chmod(temporary / TENSORS, 0o644)  # safetensors writes for its user alone
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write_variant(
    codec_folder: str | Path, out: str | Path, tensors: dict[str, torch.Tensor], config: CodecConfig, **changed: object
) -> Path:
    """A new folder of a codec with other tensors or another configuration, and so with an identity of its own.

    `changed`: settings that are new beside it. Raises Taken, and what `read_settings` raises.
    """
    settings = read_settings(codec_folder)
    settings.pop("latents_identity", None)  # of a codec whose latents were stored alike; `changed` may say it again
    prints = settings["backbone_fingerprint"], settings["tokenizer_fingerprint"]
    changed |= {"identity": codec_hash(config, *prints, tensors), "config": config.as_dict()}
    return write_folder(Path(out), tensors, TextTokenizer.load(Path(codec_folder, TOKENIZER)), settings | changed)


def load_codec(
    folder: str | Path,
    *,
    backbone: Backbone | None = None,
    backbone_name: str | None = None,
    device: str = "auto",
    verifying: VerifyConfig | None = None,
    precision: str = "auto",
    keep_plain: bool = False,
) -> Codec:
    """The codec of a folder, on the backbone that its settings name (or `backbone_name`: the same weights elsewhere).

    `verifying` fixes precision, margin and whether the adapters are merged, as a bank does; without it they stay apart,
    to be looked at, changed or saved again. `keep_plain`: `Codec.plain` works with merged ones too. Raises ValueError
    where the backbone's weights are others, NotFiniteError for a codec with a tensor that is no number.
    """
    settings = read_settings(folder)
    config = _config(folder, settings)
    if backbone is None:
        backbone = load_backbone(
            backbone_name or settings["backbone"],
            precision=verifying.precision if verifying else precision,
            device=device,
            load_in_4bit=config.load_in_4bit,
        )
    named = backbone.is_named(settings["backbone_fingerprint"])
    same = settings["tokenizer_fingerprint"] == backbone.tokenizer.fingerprint
    for what, found, fits in (
        ("backbone", backbone.fingerprint, named),
        ("tokenizer", backbone.tokenizer.fingerprint, same),
    ):
        if not fits:
            raise Refusal(
                f"the codec in {folder} was made for {settings['backbone']} with {what} "
                f"{settings[f'{what}_fingerprint']}; {backbone.name} has {found}. Use that backbone, or another codec."
            )
    try:
        tensors = load_file(Path(folder) / TENSORS)
    except SafetensorError as error:
        raise Refusal(f"{Path(folder) / TENSORS} cannot be read: {error}. Copy the codec folder again.") from None
    _require_finite(tensors, f"{Path(folder) / TENSORS}:")
    return _codec(backbone, config, tensors, settings["identity"], verifying, keep_plain=keep_plain)


def require_whole_weights(codec: Codec, folder: str | Path) -> None:
    """Hash every byte of the backbone's weights.

    ValueError where they are not the ones that the codec was made for, or where it records no such hash.
    """
    wanted, weights = read_settings(folder).get("backbone_sha256"), codec.backbone.weights
    if wanted is None or weights is None:
        raise Refusal(f"{folder} records no hash of its backbone's whole weights: it was made before there was one")
    if (found := weights.full_hash()) != wanted:
        raise Refusal(
            f"the weights of {codec.backbone.name} have hash {found}, the codec in {folder} was made for {wanted}. "
            "Copy the model again."
        )


def codec_hash(config: CodecConfig, backbone: str, tokenizer: str, tensors: dict[str, torch.Tensor]) -> str:
    """32 hex digits over configuration, the fingerprints of backbone and tokenizer, and the bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(config.meaning(), sort_keys=True).encode())
    digest.update(f"{FORMAT_VERSION} {backbone} {tokenizer}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def make_codec(
    backbone: Backbone,
    config: CodecConfig,
    *,
    marker_D: torch.Tensor,
    gain: LatentGain,
    statistics: Statistics,
    verifying: VerifyConfig | None = None,
    wrapped=None,
    slots_KD: torch.Tensor | None = None,
) -> Codec:
    """A codec from its parts, with its identity. `wrapped`: the PeftModel of `add_adapters`, if it has adapters.

    Raises NotFiniteError that names the part.
    """
    codec = Codec(
        backbone,
        config,
        marker_D=marker_D,
        gain=gain,
        statistics=statistics,
        verifying=verifying,
        wrapped=wrapped,
        slots_KD=slots_KD,
    )
    tensors = _tensors(codec)
    _require_finite(tensors, "the codec's")
    codec.identity = codec_hash(config, backbone.fingerprint, backbone.tokenizer.fingerprint, tensors)
    return codec


def _require_finite(tensors: dict[str, torch.Tensor], whose: str) -> None:
    for name, tensor in tensors.items():
        require_finite(tensor, f"{whose} {name} is", advice="Train or calibrate it again, or copy it again.")


def _tensors(codec: Codec) -> dict[str, torch.Tensor]:
    statistics = codec.statistics
    tensors = {
        "marker": codec.marker_D,
        "latent_mean": statistics.mean_D,
        "latent_deviation": statistics.deviation_D,
        "projection": statistics.projection_DE,
        "directions": statistics.directions_RD,
        "slots": codec.slots_KD,
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    tensors |= {name: _smallest(tensor) for name, tensor in codec.gain.tensors().items()}
    if codec.wrapped is not None:
        from model.adapters import adapter_tensors

        tensors |= {name: _smallest(tensor) for name, tensor in adapter_tensors(codec.wrapped).items()}
    return tensors | (codec.head.tensors() if codec.head is not None else {})


def _smallest(tensor: torch.Tensor) -> torch.Tensor:
    """In bf16 where that loses nothing, whatever precision the backbone computes in."""
    half = tensor.bfloat16()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _settings(codec: Codec) -> dict:
    weights = codec.backbone.weights
    return {
        "format_version": FORMAT_VERSION,
        "identity": codec.identity,
        "backbone": codec.backbone.name,
        "backbone_fingerprint": codec.backbone.fingerprint,
        "backbone_sha256": None if weights is None else weights.full_hash(),
        "tokenizer_fingerprint": codec.tokenizer.fingerprint,
        "hidden_width": codec.backbone.width,
        "embedding_width": codec.embedding_width,
        "config": codec.config.as_dict(),
    }


def _config(folder: str | Path, settings: dict) -> CodecConfig:
    try:
        return CodecConfig.from_dict(settings["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{Path(folder) / SETTINGS} holds no configuration that this nextmem knows: {error}. "
            "Install the one that made the codec."
        ) from None


def _codec(backbone, config, tensors, identity, verifying, *, keep_plain: bool) -> Codec:
    wrapped = merged = None
    if any(name.startswith(ADAPTERS) for name in tensors):
        from model.adapters import MergedAdapters, add_adapters, set_adapter_tensors  # peft takes a second to import

        wrapped = add_adapters(backbone, config)
        set_adapter_tensors(wrapped, tensors)
        if verifying is not None and verifying.merged and not config.load_in_4bit:
            wrapped, merged = None, MergedAdapters(wrapped, keep_plain=keep_plain)
    statistics = Statistics(
        tensors["latent_mean"], tensors["latent_deviation"], tensors.get("projection"), tensors.get("directions")
    )
    return Codec(
        backbone,
        config,
        marker_D=tensors["marker"],
        gain=LatentGain.of(tensors),
        statistics=statistics,
        verifying=verifying,
        identity=identity,
        head=head_of(tensors),
        wrapped=wrapped,
        merged=merged,
        slots_KD=tensors.get("slots"),
    )
