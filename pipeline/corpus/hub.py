"""Datasets of the Hugging Face hub, as `datasets` loads them."""

from __future__ import annotations

from functools import lru_cache

from model.quiet import no_bars
from model.refusal import Refusal
from pipeline.corpus.documents import one_line


@lru_cache(maxsize=4)
def load_splits(argument: str, name: str, config: str | None, revision: str | None, split: str) -> dict:
    """{split: dataset}. ValueError for one that cannot be loaded, and for a split that is not there."""
    import datasets

    try:
        with no_bars(datasets):
            splits = datasets.load_dataset(name, config, revision=revision)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        raise Refusal(f"{argument} could not be loaded: {one_line(error)}") from error
    if split and split not in splits:
        raise Refusal(f"{argument}: there is no split {split!r}; found {', '.join(splits)}. Slices are not taken")
    return {split: splits[split]} if split else dict(splits)
