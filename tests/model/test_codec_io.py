"""A codec folder: whole, the same after loading, and refused in the right words where it is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memories import assert_exact, memorise
from overfitted import text_chunks, tiny_backbone
from safetensors.torch import load_file

from model.adapters import adapter_tensors, add_adapters, set_adapter_tensors
from model.codec import Codec
from model.codec_io import codec_hash, load_codec, make_codec, save_codec
from model.config import CodecConfig, VerifyConfig
from model.default_codec import default_codec_folder
from model.untrained import untrained_codec


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> Path:
    return save_codec(trained, tmp_path_factory.mktemp("codecs") / "trained")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """To be damaged."""
    return shutil.copytree(folder, tmp_path / "copy")


def change_settings(folder: Path, **changes) -> None:
    settings = json.loads((folder / "codec.json").read_text())
    (folder / "codec.json").write_text(json.dumps(settings | changes))


def test_a_loaded_codec_computes_what_the_saved_one_did(trained, folder):
    """Both adapters, the gain and the statistics survive: latents, embeddings and patches are the same bytes."""
    loaded = load_codec(folder, backbone=tiny_backbone())
    chunks = text_chunks(trained.backbone)
    assert (loaded.identity, loaded.config, loaded.verifying) == (trained.identity, trained.config, trained.verifying)
    for found, wanted in zip(loaded.memorise(chunks), trained.memorise(chunks), strict=True):
        assert (found.codes, found.scales, found.patch) == (wanted.codes, wanted.scales, wanted.patch)
        assert found.embedding_E.tobytes() == wanted.embedding_E.tobytes()
    assert_exact(loaded, memorise(trained, chunks, 8), chunks, 8)


def test_a_loaded_codec_recalls_exactly_in_bf16(folder):
    """The backbone in bf16 with eager attention: verified and recalled there, batches of every size."""
    codec = load_codec(folder, backbone=tiny_backbone(precision="bf16"))
    assert (codec.verifying, codec.backbone.dtype) == (VerifyConfig("bf16", 0.5), torch.bfloat16)
    chunks = text_chunks(codec.backbone)
    rows = memorise(codec, chunks, 8)
    assert sum(len(codec.patches.unpack(row.patch).positions) for row in rows) < 0.2 * sum(map(len, chunks))
    for size in (1, 3, 8):
        assert_exact(codec, rows, chunks, size)


def test_adapters_are_saved_in_bf16_where_that_loses_nothing(trained, tmp_path):
    backbone = tiny_backbone()
    wrapped = add_adapters(backbone, trained.config)
    kept = {name: tensor.bfloat16().float() for name, tensor in adapter_tensors(trained.wrapped).items()}
    set_adapter_tensors(wrapped, kept)
    rounded = make_codec(
        backbone,
        trained.config,
        marker_D=trained.marker_D,
        gain=trained.gain,
        statistics=trained.statistics,
        wrapped=wrapped,
    )
    folder = save_codec(rounded, tmp_path / "rounded")
    saved = load_file(folder / "codec.safetensors")
    assert {tensor.dtype for name, tensor in saved.items() if name in kept} == {torch.bfloat16}
    assert saved["marker"].dtype == torch.float32
    chunks = text_chunks(backbone)
    loaded = load_codec(folder, backbone=tiny_backbone())
    assert [m.codes for m in loaded.memorise(chunks)] == [m.codes for m in rounded.memorise(chunks)]


def test_saving_twice_gives_the_same_bytes(trained, folder, tmp_path):
    again = save_codec(trained, tmp_path / "again")
    assert sorted(p.name for p in again.iterdir()) == ["codec.json", "codec.safetensors", "tokenizer.json"]
    for path in again.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_a_codec_is_for_everyone_to_read(folder):
    assert {path.stat().st_mode & 0o444 for path in folder.iterdir()} == {0o444}


def test_saving_refuses_a_folder_that_is_there(trained, folder):
    with pytest.raises(FileExistsError, match="exists already; name a new folder for the codec"):
        save_codec(trained, folder)


def test_a_save_that_fails_leaves_nothing(trained, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("model.codec_io.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_codec(trained, tmp_path / "codec")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        CodecConfig(num_latents=4),
        CodecConfig(latent_gain="fixed"),
        CodecConfig(latent_gain="learned"),
        CodecConfig(latent_gain="linear"),
        CodecConfig(max_embedding_width=16),
    ],
    ids=["raw", "fixed", "learned", "linear", "projected"],
)
def test_untrained_codecs_of_every_kind_load_again(llama, config, tmp_path):
    codec = untrained_codec(llama, config)
    loaded = load_codec(save_codec(codec, tmp_path / "codec"), device="cpu", precision="fp32")
    chunks = text_chunks(llama)[:2]
    assert loaded.identity == codec.identity and loaded.config == config
    assert [m.codes for m in loaded.memorise(chunks)] == [m.codes for m in codec.memorise(chunks)]
    assert loaded.embedding_width == codec.embedding_width == min(64, config.max_embedding_width)


def parts(codec: Codec) -> dict[str, torch.Tensor]:
    statistics = codec.statistics
    return {"marker": codec.marker_D, "mean": statistics.mean_D, "deviation": statistics.deviation_D}


def test_the_identity_changes_with_every_part(llama):
    codec = untrained_codec(llama, CodecConfig(num_latents=4))

    def identity(config=codec.config, backbone=llama, **changes):
        return codec_hash(config, backbone.fingerprint, backbone.tokenizer.fingerprint, parts(codec) | changes)

    nudged = codec.marker_D.clone()
    nudged[-1] = torch.nextafter(nudged[-1], torch.tensor(9.0))
    identities = [
        identity(),
        identity(marker=nudged),
        identity(mean=codec.statistics.mean_D.to(torch.float64)),
        identity(gain=torch.ones(64)),
        identity(config=replace(codec.config, num_latents=5)),
        identity(config=replace(codec.config, latent_gain="fixed")),
        identity(backbone=replace(llama, fingerprint="0" * 32)),
    ]
    assert len(set(identities)) == len(identities)
    assert identity() == identities[0] and len(identities[0]) == 32


def test_adapters_are_part_of_the_identity(trained):
    backbone = tiny_backbone()
    wrapped = add_adapters(backbone, trained.config)
    other = make_codec(
        backbone,
        trained.config,
        marker_D=trained.marker_D,
        gain=trained.gain,
        statistics=trained.statistics,
        wrapped=wrapped,
    )
    assert other.identity != trained.identity


def test_fresh_adapters_change_nothing(llama):
    backbone, ids = tiny_backbone(hidden_size=64), torch.arange(3, 30)[None]
    before = backbone.model(ids).logits
    add_adapters(backbone, CodecConfig())
    assert torch.equal(backbone.model(ids).logits, before)


def test_a_backbone_serves_one_codec_with_adapters(folder):
    backbone = tiny_backbone()
    load_codec(folder, backbone=backbone)
    with pytest.raises(ValueError, match="has adapters already; load it again for another codec"):
        load_codec(folder, backbone=backbone)


@pytest.mark.parametrize("name", ["codec.json", "codec.safetensors", "tokenizer.json"])
def test_a_missing_file_is_refused_by_name(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is not a whole codec folder: {name} is missing"):
        load_codec(copy)


def test_torn_tensors_are_refused(copy):
    path = copy / "codec.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"codec\.safetensors is torn: its hash differs"):
        load_codec(copy)


def test_tensors_that_are_no_safetensors_are_refused(copy):
    from model.codec_folder import file_hash

    (copy / "codec.safetensors").write_bytes(b"PK\x03\x04 a pickle")
    change_settings(copy, tensors_sha256=file_hash(copy / "codec.safetensors"))
    with pytest.raises(ValueError, match=r"codec\.safetensors cannot be read: .*\. Copy the codec folder again"):
        load_codec(copy, backbone=tiny_backbone())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1}', "null"])
def test_torn_settings_are_refused(copy, text):
    (copy / "codec.json").write_text(text)
    with pytest.raises(ValueError, match=r"codec\.json is torn or no codec's"):
        load_codec(copy)


def test_settings_that_are_not_utf8_are_refused(copy):
    (copy / "codec.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"codec\.json is torn or no codec's"):
        load_codec(copy)


def test_a_future_format_is_refused(copy):
    change_settings(copy, format_version=2)
    with pytest.raises(ValueError, match=r"has codec format 2; this nextmem reads 1\. Install a matching one"):
        load_codec(copy)


@pytest.mark.parametrize("change", [{"shape": "round"}, {"num_latents": "many"}])
def test_a_configuration_of_another_version_is_refused(copy, change):
    settings = json.loads((copy / "codec.json").read_text())
    change_settings(copy, config=settings["config"] | change)
    with pytest.raises(ValueError, match=r"codec\.json"):
        load_codec(copy, backbone=tiny_backbone())


def test_another_backbone_is_refused_and_both_are_named(folder):
    other = replace(tiny_backbone(), name="other", fingerprint="e" * 32)
    with pytest.raises(ValueError, match=f"with backbone {'f' * 32}; other has {'e' * 32}"):
        load_codec(folder, backbone=other)


def test_another_tokenizer_is_refused(copy):
    change_settings(copy, tokenizer_fingerprint="0" * 32)
    with pytest.raises(ValueError, match=f"with tokenizer {'0' * 32}; tiny-llama-128 has"):
        load_codec(copy, backbone=tiny_backbone())


def test_the_default_codec_is_made_once_and_again_when_torn(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path))
    config = CodecConfig(num_latents=2, chunk_tokens=16)
    folder = default_codec_folder("tiny-llama", config, precision="fp32")
    made = (folder / "codec.json").stat().st_mtime_ns
    assert default_codec_folder("tiny-llama", config, precision="fp32") == folder
    assert (folder / "codec.json").stat().st_mtime_ns == made
    assert default_codec_folder("tiny-qwen3", config, precision="fp32") != folder
    assert default_codec_folder("tiny-llama", replace(config, num_latents=3), precision="fp32") != folder
    (folder / "codec.safetensors").write_bytes(b"")
    assert default_codec_folder("tiny-llama", config, precision="fp32") == folder
    assert load_codec(folder, device="cpu", precision="fp32").config == config
