"""A trial: how fast this machine encodes a sample, where nobody has measured what the job will take."""

from __future__ import annotations

import time

import pyarrow as pa
import torch

from model.codec_io import load_codec
from pipeline.encode.batch_size import usual_batch
from pipeline.encode.memorise import Memoriser
from pipeline.encode.options import EncodeOptions
from pipeline.encode.spread import spread

WARM_UP = 8  # chunks
BATCHES = {"cpu": 1, "cuda": 4}  # timed


def measured_rate(chunks: pa.Table, options: EncodeOptions) -> float:
    """Chunks a second of one worker, verifying as the job would, over about a batch of the chunks (on a GPU four)."""
    if not torch.cuda.is_available():
        torch.set_num_threads(options.threads)
    codec = load_codec(options.codec, backbone_name=options.backbone, verifying=options.verifying)
    device = codec.backbone.device.type
    memoriser = Memoriser(codec, verify=options.verify, refine=options.refine, batch_size=options.batch_size)
    timed = spread(chunks, BATCHES[device] * (options.batch_size or usual_batch(codec.backbone)))
    warm_up = timed.slice(0, WARM_UP) if device == "cpu" else timed  # a GPU finds its batch size on the way
    memoriser.memorise(warm_up, "warm-up")
    started = time.perf_counter()
    memoriser.memorise(timed, "trial")
    return timed.num_rows / (time.perf_counter() - started)
