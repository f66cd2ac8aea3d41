"""Loading: tiny models, model folders, 4 bits; and what is no model is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.backbone import load_backbone
from model.bytes_tokenizer import bytes_tokenizer
from model.tiny import tiny_model
from model.untrained import untrained_codec
from model.weights import WHOLE, find_weights


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A model in several safetensors files, as large ones come."""
    folder = tmp_path_factory.mktemp("models") / "small"
    tiny_model("tiny-qwen3").save_pretrained(folder, max_shard_size="200KB")
    bytes_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_a_tiny_backbone_has_the_same_weights_everywhere():
    left, right = tiny_model("tiny-llama"), tiny_model("tiny-llama")
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))
    before = torch.get_rng_state()
    tiny_model("tiny-llama", seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_backbones_are_frozen_and_say_what_they_are(tiny):
    assert (tiny.width, tiny.vocab_size, tiny.dtype, tiny.device.type) == (64, 259, torch.float32, "cpu")
    assert not tiny.model.training and not any(p.requires_grad for p in tiny.model.parameters())
    assert sum(p.numel() for p in tiny.model.parameters()) < 150_000


@pytest.mark.parametrize(
    ("precision", "dtype", "attention"), [("fp32", torch.float32, "sdpa"), ("bf16", torch.bfloat16, "eager")]
)
def test_attention_goes_with_the_precision(precision, dtype, attention, model_folder):
    for name in ("tiny-llama", str(model_folder)):
        loaded = load_backbone(name, precision=precision, device="cpu")
        assert loaded.model.config._attn_implementation == attention
        assert (
            loaded.precision == precision and loaded.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        )


def test_encoding_attends_with_sdpa_and_all_else_as_loaded():
    """Whatever the precision: latents are verified as they are stored, so only verifying and recalling must agree."""
    backbone = load_backbone("tiny-llama", precision="bf16", device="cpu")
    config, seen = backbone.model.config, []
    backbone.body.register_forward_pre_hook(lambda *_: seen.append(config._attn_implementation))
    codec = untrained_codec(backbone)
    seen.clear()
    codec.memorise([np.arange(3, 12)])
    latents = codec.config.num_latents
    assert seen[:latents] == ["sdpa"] * latents and set(seen[latents:]) == {"eager"}
    assert config._attn_implementation == "eager"


def test_a_sharded_model_folder_loads_and_gives_the_saved_models_states(model_folder):
    assert len(list(model_folder.glob("*.safetensors"))) > 1
    loaded = load_backbone(str(model_folder), precision="fp32", device="cpu")
    ids = torch.arange(3, 40)[None]
    assert torch.equal(loaded.model(ids).logits, tiny_model("tiny-qwen3").eval()(ids).logits)
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("naïve")) == "naïve"


def test_the_fingerprint_is_of_the_weights_not_of_the_place(model_folder, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "elsewhere")
    assert find_weights(str(copy)).fingerprint == find_weights(str(model_folder)).fingerprint
    file = sorted(copy.glob("*.safetensors"))[0]
    save_file(load_file(file), file, metadata={"saved": "by another version"})
    assert find_weights(str(copy)).fingerprint == find_weights(str(model_folder)).fingerprint
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert find_weights(str(copy)).fingerprint != find_weights(str(model_folder)).fingerprint
    file.write_bytes(data[:20])
    with pytest.raises(ValueError, match="is torn, or no safetensors file"):
        find_weights(str(copy))
    assert find_weights("tiny-llama").fingerprint != find_weights("tiny-qwen3").fingerprint


def reconfigured(folder: Path, **changes) -> Path:
    """The folder with another configuration; None takes a field away."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 1e-5},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
        {"hidden_act": "gelu"},
        {"eos_token_id": 7},
        {"a_field_of_tomorrow": 3},
        {"text_config": {"sliding_window": 64}},
    ],
)
def test_the_fingerprint_is_of_what_shapes_a_forward_too(model_folder, tmp_path, changes):
    copy = reconfigured(shutil.copytree(model_folder, tmp_path / "copy"), **changes)
    whole, other = find_weights(str(model_folder)), find_weights(str(copy))
    assert other.fingerprint != whole.fingerprint and other.sampled == whole.sampled


@pytest.mark.parametrize(
    "changes",
    [
        {"transformers_version": "4.40.0", "_name_or_path": "elsewhere", "architectures": None},
        {"dtype": None, "torch_dtype": "float32", "use_cache": False, "attention_dropout": 0.1},
        {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": None},
        {"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "default"}},
        {"attention_bias": None, "mlp_bias": False, "a_field_of_tomorrow": False},
        {"eos_token_id": [0]},
    ],
)
def test_the_fingerprint_does_not_tell_who_wrote_a_configuration(model_folder, tmp_path, changes):
    for name in ("ours", "theirs"):
        shutil.copytree(model_folder, tmp_path / name)
        reconfigured(tmp_path / name, rope_parameters={"rope_theta": 1e4, "rope_type": "default"}, eos_token_id=0)
    ours, theirs = find_weights(str(tmp_path / "ours")), find_weights(str(reconfigured(tmp_path / "theirs", **changes)))
    assert ours.fingerprint == theirs.fingerprint


def test_a_fingerprint_of_the_old_form_is_known_by_the_weights_alone(model_folder, tmp_path, monkeypatch):
    """What codecs and banks recorded before. Where the whole of a backbone is known it must fit whole."""
    weights = find_weights(str(model_folder))
    other = find_weights(str(reconfigured(shutil.copytree(model_folder, tmp_path / "copy"), rms_norm_eps=1e-5)))
    assert weights.is_named(weights.fingerprint) and weights.is_named(weights.sampled)
    assert other.is_named(weights.sampled) and not other.is_named(weights.fingerprint)
    assert not weights.is_named("0" * 32)
    monkeypatch.setitem(WHOLE, weights.sampled, weights.fingerprint)
    assert weights.is_named(weights.sampled) and not other.is_named(weights.sampled)


def test_a_byte_between_the_samples_is_seen_by_the_full_hash_alone(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("model.weights.BLOCK", 64)
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    file = sorted(copy.glob("*.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    whole, other = find_weights(str(model_folder)), find_weights(str(copy))
    assert whole.fingerprint == other.fingerprint and whole.full_hash() != other.full_hash()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "is not a model folder: it has no config.json"),
        ("*.safetensors", r"has no \*\.safetensors: save the model with save_pretrained first"),
        ("model-00002-of-*.safetensors", "model-00002-of-00002.safetensors"),
        ("tokenizer.json", r"tokenizer\.json is missing: use a backbone with a fast tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(model_folder, tmp_path, missing, words):
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    for path in broken.glob(missing):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=words):
        load_backbone(str(broken), precision="fp32", device="cpu")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_path_that_is_not_there_is_refused(name):
    with pytest.raises(FileNotFoundError, match=r"is not a model folder: it has no config\.json"):
        find_weights(name)


def test_an_id_that_cannot_be_fetched_is_refused_in_one_line(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*args, **kwargs):
        raise LocalEntryNotFoundError("cannot reach the hub\nmany\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"'some/model' .* could not be fetched \(cannot reach the hub\)\. Name a"):
        find_weights("some/model")


def test_four_bit_weights_encode_nearly_the_same(model_folder):
    whole = load_backbone(str(model_folder), precision="fp32", device="cpu")
    packed = load_backbone(str(model_folder), precision="fp32", device="cpu", load_in_4bit=True)
    kinds = {type(m).__name__ for m in packed.body.modules()}
    assert "Linear4bit" in kinds
    codec, packed_codec = untrained_codec(whole), untrained_codec(packed)
    ids_BL, lengths_B = codec.pad([torch.arange(3, 60).numpy()])
    latents, packed_latents = codec.encode(ids_BL, lengths_B), packed_codec.encode(ids_BL, lengths_B)
    similarity = torch.nn.functional.cosine_similarity(latents[:, 0], packed_latents[:, 0])
    assert 0.5 < float(similarity) < 0.9999
