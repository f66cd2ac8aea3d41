"""The model that reads a bank's latents where they stand among text: of `Bank`, one of its methods."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from model.refusal import Refusal
from pipeline.bank.codec_copy import local_codec

if TYPE_CHECKING:
    from model.backbone import Backbone
    from nextmem.bank import Bank


def reader(self: Bank, folder: str | os.PathLike[str] | None = None) -> Backbone:
    """A backbone for prompts that hold this bank's latents: `model` takes them as `inputs_embeds`, `embed` embeds text.

    It computes as precisely as the bank's codec. Its weights are its own, apart from the codec's. They have the adapter
    of the reader in the bank's codec, or in the codec of `folder`; without one it is the plain backbone. Loaded anew by
    each call: keep it. Raises Refusal for a reader of other latents.
    """
    from model.backbone import load_backbone
    from model.codec_head import latents_identity
    from model.reader import has_reader, load_reader

    own = local_codec(self._open().codec_path)
    if folder is not None and latents_identity(folder) != (held := latents_identity(own)):
        raise Refusal(f"{folder} reads latents of codec {latents_identity(folder)}, {self.path} holds those of {held}")
    chosen = own if folder is None else os.fspath(folder)
    if folder is not None or has_reader(chosen):
        return load_reader(chosen, backbone_name=self._backbone, precision=self.identity.verify_precision)
    return load_backbone(self._backbone or self.identity.backbone, precision=self.identity.verify_precision)
