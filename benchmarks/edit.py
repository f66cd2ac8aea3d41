"""What editing a memory does: a name, number or date of a chunk gives way to another, by each of the three methods.

    python -m benchmarks.edit --out edit.jsonl --data shared/eval_squad.parquet --data shared/eval_nq.parquet

Without --data the passages are the project's samples. What was measured is kept in --out, a line a swap and method: the
same command goes on where it stopped, and prints the table of all lines. Of each edit, after NF4:

    value     the share of swaps whose new value the latents alone give back, the text before it given; and drafted
              freely: the new value stands in the draft, the old one does
    kept      of the positions that were right before the edit, those that are right after it: within 8 tokens of the
              value, and beyond. `same` counts positions beyond whose token is the same, right or wrong
    use       nats a token of the new value less those of the old one, the text before the value and the latents given:
              below 0 the new value is the likelier. By the codec's decoder, and by the plain backbone
    search    of all chunks, the share where a query of a few words around the new value finds the edited chunk first;
              and where it is nearer to it than the same query with the old value
    patch     bytes more than before the edit
    cost      seconds over the seconds of encoding the same chunks without verifying
    drift     the same after ten edits of one place, one after the other

Shapes: B chunks, L text tokens, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import documents, machine, options, timed
from benchmarks.loaded import add_options, named_precision
from benchmarks.swaps import Ids, Swap, changed, swaps
from model.codec import Codec
from model.codec_io import load_codec
from model.config import VerifyConfig
from model.default_codec import default_codec_folder
from model.edit import ENCODE, METHODS, PATCH, REFINE, STEPS, edited
from model.memory import Memory, StoredMemory
from pipeline.bank.search import embed_query
from pipeline.corpus.passages import Found, passage_files, read_passages

BATCH = 16
NEAR = 8  # tokens
EDITS = 10  # of a drift
WORDS = 5  # of a query, on each side of the value


@dataclass(frozen=True, slots=True)
class Measured:
    """One swap by one method. Shares are of positions; None where there are none."""

    swap: int
    kind: str
    method: str
    edits: int
    exact: bool
    value: bool
    drafted: bool
    old_drafted: bool
    kept_near: float | None
    kept_beyond: float | None
    same_beyond: float | None
    fidelity_before: float
    fidelity: float
    decoder_nats: float  # new less old
    backbone_nats: float
    found_first: bool
    nearer: bool
    patch_before: int
    patch: int
    encodes: float


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--data", action="append", help="Parquet or JSONL with passages; may be repeated")
    parser.add_argument("--swaps", type=int, default=102, help="default: %(default)s")
    parser.add_argument("--drifts", type=int, default=8, help="swaps that are edited ten times; default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="of refining, at most; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("edit.jsonl"), help="default: %(default)s")
    arguments = parser.parse_args()
    codec = the_codec(arguments)
    made = swaps(codec.tokenizer, passages(arguments), codec.config.chunk_tokens, arguments.swaps, EDITS)
    if not made:
        raise SystemExit("no passage holds a name, number or date once")
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    measure(codec, made, arguments)
    tell([Measured(**json.loads(line)) for line in arguments.out.read_text().splitlines()])


def the_codec(arguments: argparse.Namespace) -> Codec:
    folder = arguments.codec or default_codec_folder(arguments.backbone)
    verifying = VerifyConfig.of(named_precision(arguments.precision))
    return load_codec(folder, backbone_name=arguments.backbone, verifying=verifying, keep_plain=True)


def passages(arguments: argparse.Namespace) -> list[str]:
    if not arguments.data:
        return [document.text for document in documents(arguments.corpus)]
    each = [read_passages([file], "text", Found()) for file in passage_files(arguments.data)]
    share = -(-3 * arguments.swaps // len(each))  # not every passage has a value that stands there once
    return [text for some in each for text in islice(dict.fromkeys(some), share)]


def measure(codec: Codec, made: Sequence[Swap], arguments: argparse.Namespace) -> None:
    """Batch by batch, method by method; what --out holds is not done again."""
    arguments.out.touch()
    done = {(m["swap"], m["method"], m["edits"]) for m in map(json.loads, arguments.out.read_text().splitlines())}
    haystack = np.stack([m.embedding_E for some in batched(made) for m in codec.memorise(old_chunks(codec, some))])
    for method, edits, start, end in turns(len(made), min(arguments.drifts, len(made))):
        if (start, method, edits) not in done:
            some = made[start:end]
            found = batch(codec, some, start, method, edits, arguments.steps, haystack)
            with arguments.out.open("a") as file:
                file.writelines(json.dumps(asdict(each)) + "\n" for each in found)
            print(f"  {method}, {edits} edit{'s' * (edits > 1)}: swaps {start} to {end - 1}", flush=True)


def turns(count: int, drifts: int) -> Iterator[tuple[str, int, int, int]]:
    """(method, edits, first swap, one past the last), a batch each; what takes longest comes last."""
    for methods in ((ENCODE, PATCH), (REFINE,)):
        for edits, many in ((EDITS, drifts), (1, count)):
            for start in range(0, many, BATCH):
                yield from ((method, edits, start, min(start + BATCH, many)) for method in methods)


def batched(made: Sequence[Swap]) -> Iterator[Sequence[Swap]]:
    return (made[start : start + BATCH] for start in range(0, len(made), BATCH))


def old_chunks(codec: Codec, some: Sequence[Swap]) -> list[np.ndarray]:
    return [ids_of(codec, swap.text(swap.old)) for swap in some]


def ids_of(codec: Codec, text: str) -> np.ndarray:
    return np.asarray(codec.tokenizer.encode(text), dtype=np.int32)


def batch(
    codec: Codec, some: Sequence[Swap], first: int, method: str, edits: int, steps: int, haystack_NE: np.ndarray
) -> list[Measured]:
    """The swaps' chunks memorised, edited once or ten times, and looked at.

    What the decoder, the plain backbone and the encoder say is asked for all swaps at once: to switch costs a copy of
    the weights.
    """
    old = old_chunks(codec, some)
    encoding = timed(lambda: codec.memorise(old, verify=False))
    before = now = codec.memorise(old)
    seconds = 0.0
    for turn in range(edits):
        chunks = [ids_of(codec, swap.text(swap.new[turn])) for swap in some]
        held: list[Memory] = []
        edit = partial(edited, codec, now, chunks, method, steps=steps)
        seconds += timed(lambda edit=edit, held=held: held.extend(edit()))
        now = held
    spans = [(changed(a, b), changed(b, a)) for a, b in zip(old, chunks, strict=True)]
    recalled = codec.recall([stored(*each) for each in zip(now, chunks, strict=True)])
    drafts = codec.draft(codec.stored_latents(now), [len(ids) for ids in chunks])
    texts = [codec.tokenizer.decode(draft.tolist()) for draft in drafts]
    rights = [right(codec, *each) for each in zip(before, now, spans, strict=True)]
    decoder = [value_nats(codec, *each) for each in zip(now, spans, strict=True)]
    with codec.plain():
        plain = [value_nats(codec, *each, marker=False) for each in zip(now, spans, strict=True)]
    return [
        Measured(
            swap=first + i,
            kind=swap.kind,
            method=method,
            edits=edits,
            exact=recalled[i].exact,
            drafted=swap.new[edits - 1] in texts[i],
            old_drafted=swap.old in texts[i],
            fidelity_before=before[i].fidelity,
            fidelity=now[i].fidelity,
            decoder_nats=decoder[i],
            backbone_nats=plain[i],
            patch_before=len(before[i].patch),
            patch=len(now[i].patch),
            encodes=seconds / encoding / edits,
            **rights[i],
            **search(codec, swap, swap.new[edits - 1], now[i], haystack_NE, first + i),
        )
        for i, swap in enumerate(some)
    ]


def stored(memory: Memory, ids_L: np.ndarray) -> StoredMemory:
    return StoredMemory(
        memory.codes, memory.scales, len(ids_L), memory.patch, lambda found: np.array_equal(found, ids_L)
    )


def right(codec: Codec, before: Memory, after: Memory, spans: tuple[Ids, Ids]) -> dict[str, object]:
    """The value, and the positions around it, as the latents alone have them; each with the text before it."""
    new, old = spans
    was_L, is_L = argmax(codec, before, old.tokens_L), argmax(codec, after, new.tokens_L)
    shift = len(new.tokens_L) - len(old.tokens_L)
    places = [(i, i) for i in range(old.start)] + [(i, i + shift) for i in range(old.end, len(old.tokens_L))]
    near = [(a, b) for a, b in places if old.start - NEAR <= a < old.end + NEAR]
    beyond = sorted(set(places) - set(near))

    def kept(pairs: Sequence[tuple[int, int]]) -> float | None:
        held = [is_L[b] == new.tokens_L[b] for a, b in pairs if was_L[a] == old.tokens_L[a]]
        return float(np.mean(held)) if held else None

    return {
        "value": bool((is_L[new.start : new.end] == new.tokens_L[new.start : new.end]).all()),
        "kept_near": kept(near),
        "kept_beyond": kept(beyond),
        "same_beyond": float(np.mean([was_L[a] == is_L[b] for a, b in beyond])) if beyond else None,
    }


def argmax(codec: Codec, memory: Memory, ids_L: np.ndarray) -> np.ndarray:
    ids_BL, _ = codec.pad([ids_L, ids_L])  # a lone one rounds otherwise than recall does
    latents_BKD = codec.stored_latents([memory, memory])
    return codec.read(latents_BKD, ids_BL).argmax_BL[0].cpu().numpy()


@torch.inference_mode()
def value_nats(codec: Codec, memory: Memory, spans: tuple[Ids, Ids], *, marker: bool = True) -> float:
    """Nats a token of the new value less those of the old one, after the latents and the text before the value.

    By whatever the backbone is switched to. The marker means nothing to the plain one.
    """
    prefix_1SD = codec.prefix(codec.stored_latents([memory]))
    embeds_1SD = prefix_1SD if marker else prefix_1SD[:, :-1]
    return nats(codec, embeds_1SD, spans[0]) - nats(codec, embeds_1SD, spans[1])


def nats(codec: Codec, prefix_1SD: torch.Tensor, ids: Ids) -> float:
    """Mean cross-entropy of the tokens that differ, up to a first one where none does: an insertion."""
    end = max(ids.end, ids.start + 1)
    text_1L = torch.from_numpy(ids.tokens_L[:end].astype(np.int64)).to(prefix_1SD.device)[None]
    embeds = torch.cat([prefix_1SD, codec.backbone.embed(text_1L)], dim=1)
    hidden_LD = codec.backbone.body(inputs_embeds=embeds).last_hidden_state[0, -(end - ids.start) - 1 : -1]
    logits_LV = codec.backbone.head(hidden_LD).float()
    return float(torch.nn.functional.cross_entropy(logits_LV, text_1L[0, ids.start : end]))


def search(
    codec: Codec, swap: Swap, new: str, memory: Memory, haystack_NE: np.ndarray, place: int
) -> dict[str, object]:
    """Among all chunks, this one with the embedding that it has after the edit."""
    asked_E, other_E = (embedded(codec, query(swap, value)) for value in (new, swap.old))
    all_NE = haystack_NE.copy()
    all_NE[place] = memory.embedding_E
    scores = [(all_NE @ query_E) / np.linalg.norm(query_E) for query_E in (asked_E, other_E)]
    return {
        "found_first": bool(scores[0].argmax() == place),
        "nearer": bool(scores[0][place] > scores[1][place]),
    }


def query(swap: Swap, value: str) -> str:
    return " ".join([*swap.before.split()[-WORDS:], value, *swap.after.split()[:WORDS]])


@cache
def embedded(codec: Codec, asked: str) -> np.ndarray:
    """The same for each of the methods."""
    return embed_query(codec, asked)


def tell(measured: Sequence[Measured]) -> None:
    """A Markdown table: a column a method, once edited and ten times."""
    sets = {(m, e): [x for x in measured if (x.method, x.edits) == (m, e)] for e in (1, EDITS) for m in METHODS}
    sets = {name: found for name, found in sets.items() if found}
    rows: dict[str, list[str]] = {
        "swaps": [str(len(found)) for found in sets.values()],
        "recall exact": [percent(found, "exact") for found in sets.values()],
        "new value right": [percent(found, "value") for found in sets.values()],
        **{
            f"of {kind}s": [percent([x for x in found if x.kind == kind], "value") for found in sets.values()]
            for kind in ("name", "number", "date")
        },
        "new value drafted": [percent(found, "drafted") for found in sets.values()],
        "old value drafted": [percent(found, "old_drafted") for found in sets.values()],
        "kept, within 8 tokens": [percent(found, "kept_near") for found in sets.values()],
        "kept, beyond": [percent(found, "kept_beyond") for found in sets.values()],
        "same token, beyond": [percent(found, "same_beyond") for found in sets.values()],
        "fidelity before": [percent(found, "fidelity_before") for found in sets.values()],
        "fidelity": [percent(found, "fidelity") for found in sets.values()],
        "use, decoder (nats)": [f"{mean(found, 'decoder_nats'):+.2f}" for found in sets.values()],
        "use, plain backbone (nats)": [f"{mean(found, 'backbone_nats'):+.2f}" for found in sets.values()],
        "found first": [percent(found, "found_first") for found in sets.values()],
        "nearer than with the old value": [percent(found, "nearer") for found in sets.values()],
        "patch, bytes more": [f"{mean(found, 'patch') - mean(found, 'patch_before'):+.1f}" for found in sets.values()],
        "cost of one, in encodes": [f"{mean(found, 'encodes'):.1f}" for found in sets.values()],
    }
    print("\n| | " + " | ".join(f"{m}, {e} edit{'s' * (e > 1)}" for m, e in sets) + " |")
    print("|---|" + "---|" * len(sets))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def mean(found: Sequence[Measured], name: str) -> float:
    values = [value for each in found if (value := getattr(each, name)) is not None]
    return float(np.mean(values)) if values else float("nan")


def percent(found: Sequence[Measured], name: str) -> str:
    return f"{100 * mean(found, name):.1f} %"


if __name__ == "__main__":
    main()
