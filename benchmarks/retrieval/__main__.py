"""What each way of searching finds: latents by their mean or a head, words, both, BM25 and a sentence embedder.

    python -m benchmarks.retrieval.sets DATA/retrieval_nq DATA/retrieval_squad --passages 500 --out sets
    nextmem encode sets/retrieval_nq/corpus.parquet banks/nq --no-verify --keep-text --keep-words
    python -m benchmarks.retrieval --sets sets/retrieval_nq,sets/retrieval_squad --banks banks --head RUN/codec

The bank of a set retrieval_NAME is BANKS/NAME. Every query is asked of the whole corpus. A passage is as near as its
nearest chunk. One half of the queries chooses the weight of a search by both, over all sets; the other half reports.
With --kept a set that is measured stays measured, and a killed run goes on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Report, options
from benchmarks.retrieval.rivals import by_bm25s, by_embedder
from benchmarks.retrieval.sets import MEASURES, Asked, Run, load
from benchmarks.retrieval.ways import WEIGHTS, both, ways
from model.codec import Codec
from model.codec_head import latents_identity
from model.codec_io import load_codec
from pipeline.bank.bank import Bank
from pipeline.bank.opened import load_bank_codec, open_bank

CHOOSES, REPORTS = "chooses", "reports"  # the halves of a set's queries
JUDGE = "nDCG@10"  # what chooses a weight
Figures = dict[str, dict[str, dict[str, float]]]  # of a set: a half, a way, a measure


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sets", required=True, help="folders, with commas between")
    parser.add_argument("--banks", required=True, help="a folder of banks")
    parser.add_argument("--head", help="a codec folder with a head on the banks' codec; else the banks' own, if any")
    parser.add_argument("--refined", help="a folder of banks of the same sets, encoded with --refine")
    parser.add_argument("--dense", action="store_true", help="also latents that are not quantised: encodes anew")
    parser.add_argument("--queries", type=int, default=200, help="of each set, by lot; default: %(default)s")
    parser.add_argument("--kept", type=Path, help="a folder for what is measured")
    asked_for = parser.parse_args()
    report = Report("retrieval", asked_for.json, queries=asked_for.queries, head=asked_for.head)
    torch.set_num_threads(1)
    figures: dict[str, Figures] = {}
    for folder in map(Path, asked_for.sets.split(",")):
        asked = load(folder, asked_for.queries)
        figures[asked.name] = _kept(asked, asked_for)
        report.line(f"{asked.name}: passages; queries", f"{len(asked.passage_ids):,}; {len(asked.query_ids):,}")
    chosen = choose(figures)
    for side, weights in chosen.items():
        report.line(f"weight of the {side}'s latents, chosen", ", ".join(f"{f} {w:g}" for f, w in weights.items()))
    table(figures, chosen)
    report.figures |= {"chosen": chosen, "figures": figures}
    report.close()


def _kept(asked: Asked, asked_for) -> Figures:
    """The set's figures, measured now or before with the same bank, codec and queries."""
    bank = open_bank(f"{asked_for.banks}/{asked.name}")
    refined = open_bank(f"{asked_for.refined}/{asked.name}") if asked_for.refined else None
    codec, head = _codecs(bank, asked_for.head)
    of = [bank.folder.uri, bank.version, codec.identity, head and head.identity, asked.query_ids, asked_for.dense]
    of += [WEIGHTS, refined and [refined.folder.uri, refined.version]]
    digest = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
    path = asked_for.kept and asked_for.kept / f"{asked.name}-{digest}.json"
    if path and path.exists():
        return json.loads(path.read_text())
    found = ways(asked, bank, codec, head, refined=refined, dense=asked_for.dense)
    found |= {"BM25 (bm25s)": by_bm25s(asked), "MiniLM": by_embedder(asked)}
    figures = measured(asked, found)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures))
    return figures


def _codecs(bank: Bank, head_folder: str | None) -> tuple[Codec, Codec | None]:
    """The bank's codec, and one with a head: another's, which must be of the same latents, or the bank's own."""
    codec, own = load_bank_codec(bank), latents_identity(bank.codec_path)
    if head_folder is None:
        return codec, codec if codec.head is not None else None
    if latents_identity(head_folder) != own:
        raise SystemExit(f"{head_folder} has a head for the latents of {latents_identity(head_folder)}, not of {own}")
    return codec, load_codec(head_folder, backbone=codec.backbone)


def measured(asked: Asked, found: dict[str, Run]) -> Figures:
    halves = {CHOOSES: asked.half(True), REPORTS: asked.half(False)}
    return {
        name: {way: half.measured([run[place] for place in places]) for way, run in found.items()}
        for name, (half, places) in halves.items()
    }


def choose(figures: dict[str, Figures]) -> dict[str, dict[str, float]]:
    """Of each side and fusion the weight that is best on the mean of the sets, by the halves that choose."""
    known = next(iter(figures.values()))[CHOOSES]
    return {
        side: {
            fusion: max(WEIGHTS, key=lambda w: _mean(figures, both(side, fusion, w), JUDGE, CHOOSES))
            for fusion in ("scores", "places")
        }
        for side in ("mean", "head")
        if side in known
    }


def table(figures: dict[str, Figures], chosen: dict[str, dict[str, float]]) -> None:
    """Each measure by way and set; of the fusions, plain places and what was chosen."""
    ways_of = next(iter(figures.values()))[REPORTS]
    shown = [way for way in ways_of if not way.startswith("both")]
    for side, weights in chosen.items():
        shown += [both(side, "places", 0.5), *(both(side, fusion, weight) for fusion, weight in weights.items())]
    for measure in MEASURES:
        print(f"\n| {measure} | {' | '.join(figures)} | mean |\n|{'---|' * (len(figures) + 2)}")
        for way in shown:
            cells = [f"{of_set[REPORTS][way][measure]:.3f}" for of_set in figures.values()]
            print(f"| {way} | {' | '.join(cells)} | {_mean(figures, way, measure, REPORTS):.3f} |")
    print(f"\n| {JUDGE} by weight | {' | '.join(f'{weight:g}' for weight in WEIGHTS)} |")
    print("|" + "---|" * (len(WEIGHTS) + 1))
    for side in chosen:
        for fusion in chosen[side]:
            cells = [f"{_mean(figures, both(side, fusion, weight), JUDGE, REPORTS):.3f}" for weight in WEIGHTS]
            print(f"| {side}, {fusion} | {' | '.join(cells)} |")


def _mean(figures: dict[str, Figures], way: str, measure: str, half: str) -> float:
    return float(np.mean([of_set[half][way][measure] for of_set in figures.values()]))


if __name__ == "__main__":
    main()
