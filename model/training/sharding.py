"""A frozen backbone shared out among the workers of a training run, for one that fits no single device.

Source: PyTorch's fully_shard, https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

import torch

from model.backbone import Backbone


def shard_layers(backbone: Backbone, device: str) -> None:
    """Move the backbone to `device`, of every frozen layer only this worker's share. Adapters stay whole everywhere.

    A layer's shares are gathered as it computes and dropped after, so the workers must run the same forwards in the
    same order. Embedding and head are not shared out. Needs torch.distributed.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (torch.distributed.get_world_size(),))
    for layer in backbone.body.layers:
        adapters = {parameter for name, parameter in layer.named_parameters() if "lora_" in name}
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=adapters)
    backbone.model.to(device)
