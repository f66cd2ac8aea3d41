"""What the paper reports, to stand beside what is measured here. Source: NextMem (arXiv 2603.15634).

Its backbone is Qwen3-8B, its decoding is sampled, its judge is unpublished, and its pool for retrieval is the
question's own references. So its rows are for orientation: no difference to them is ever computed.
"""

from __future__ import annotations

WHOSE = "the paper, on Qwen3-8B"
SETS = ("hotpotqa", "race", "squad", "locomo", "longmemeval")

_F1 = {
    "NextMem-Dense": (0.9820, 0.8552, 0.8920, 0.9611, 0.9436),
    "NextMem-Sparse (NF4)": (0.9805, 0.8554, 0.8860, 0.9615, 0.9362),
    "ICAE": (0.7890, 0.6077, 0.7084, 0.6986, 0.7015),
    "DeepSeek-OCR": (0.4540, 0.4068, 0.3657, 0.5179, 0.4685),
    "DyPRAG": (0.0305, 0.0696, 0.0493, 0.0901, 0.1338),
}
_RETRIEVAL_SETS = ("hotpotqa", "locomo", "longmemeval")
_HIT = {
    "NextMem-Dense": (0.7245, 0.4377, 0.8220),
    "NextMem-Sparse (NF4)": (0.7208, 0.4342, 0.8140),
    "ICAE": (0.4453, 0.1210, 0.5480),
    "BGE": (0.9585, 0.8007, 0.8960),
}
_RECIPROCAL = {
    "NextMem-Dense": (0.5194, 0.2418, 0.5445),
    "NextMem-Sparse (NF4)": (0.5107, 0.2310, 0.5428),
    "ICAE": (0.3187, 0.0577, 0.2437),
    "BGE": (0.8063, 0.5061, 0.6934),
}
_JUDGED_SETS = ("hotpotqa", "squad", "locomo", "longmemeval")
_JUDGED = {
    ("the text", "text"): (0.9350, 0.9335, 0.6986, 0.6971),
    ("ICAE", "latents"): (0.8565, 0.7775, 0.5407, 0.4971),
    ("ICAE", "decoded"): (0.8229, 0.7066, 0.5215, 0.5029),
    ("NextMem-Dense", "latents"): (0.5179, None, None, None),
    ("NextMem-Dense", "decoded"): (0.8072, 0.7572, 0.5407, 0.5400),
    ("NextMem-Sparse (NF4)", "decoded"): (0.8184, 0.7630, 0.5263, 0.5486),
}


def known_set(name: str) -> str | None:
    """Which of the paper's sets a set of ours is, by its name: `eval_squad` is squad."""
    return next((known for known in SETS if known in name.lower()), None)


def reported(task: str, metric: str, at: dict) -> dict[str, dict[str, float]]:
    """The paper's rows for a table: a system to its value on each set. Empty where it reports no such figure."""
    if (task, metric) == ("reconstruct", "f1"):
        return _by_set(_F1, SETS)
    if task == "retrieve" and at.get("pool") == "question" and metric in ("hit@5", "mrr@5"):
        return _by_set(_HIT if metric == "hit@5" else _RECIPROCAL, _RETRIEVAL_SETS)
    if (task, metric) == ("answer", "judge"):
        rows = {name: values for (name, source), values in _JUDGED.items() if source == at.get("from")}
        return _by_set(rows, _JUDGED_SETS)
    return {}


def _by_set(rows: dict, sets: tuple[str, ...]) -> dict[str, dict[str, float]]:
    return {
        name: {known: value for known, value in zip(sets, values, strict=True) if value is not None}
        for name, values in rows.items()
    }
