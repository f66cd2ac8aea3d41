"""An export as a Hugging Face dataset folder: Parquet, and a card whose head says which files are the rows."""

from __future__ import annotations

from huggingface_hub import DatasetCardData

from pipeline.export import parquet
from pipeline.export.readme import readme
from pipeline.export.rows import Rows
from pipeline.storage.folder import Folder

NEEDS = None
STREAMS_TO_STORES = True
ALWAYS = ()
OPENING = """
    rows = datasets.load_dataset("THIS FOLDER", split="train")
    rows = rows.add_faiss_index("embedding", metric_type=faiss.METRIC_INNER_PRODUCT)
    scores, nearest = rows.get_nearest_examples("embedding", query, k=5)"""
CARD = "README.md"


def write(rows: Rows, folder: Folder) -> list[str]:
    """`data/part-*.parquet` and README.md, the card, in the folder itself."""
    names = parquet.write(rows, folder)
    files = [{"split": "train", "path": f"{parquet.DATA}/*.parquet"}]
    head = DatasetCardData(
        pretty_name="Memory bank",
        tags=["nextmem", "latent-memory"],
        size_categories=[_size(rows.count)],
        configs=[{"config_name": "default", "data_files": files}],
    )
    folder.put(CARD, f"---\n{head.to_yaml()}\n---\n\n{readme(rows, OPENING)}".encode())
    return [*names, CARD]


def _size(rows: int) -> str:
    """The hub's word for so many rows."""
    steps = [(10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M")]
    below = next(((i, name) for i, (limit, name) in enumerate(steps) if rows < limit), None)
    if below is None:
        return "n>100M"
    place, name = below
    return f"{steps[place - 1][1]}<n<{name}" if place else "n<1K"
