"""Put a chunk's latents into the backbone's own prompt, as embeddings, and let it go on.

The model reads a chunk, or the chunk's 15 latents in its place, or nothing, and is then asked how likely the text is
that follows the chunk in its document: nats a token, lower is better. The last row puts the latents of a foreign chunk
there. The codec that ships is trained to give a text back word for word, not to be read by the plain backbone, so do
not expect the latents to stand in for the text: this prints what they are worth today.

    python examples/latents_in_prompt.py bank
"""

from __future__ import annotations

import sys

import torch

import nextmem
from model.backbone import Backbone, load_backbone

CONTINUATION = 64  # tokens of the next chunk that the model is asked about


def main(folder: str, documents: int = 8) -> dict[str, float]:
    """Print nats a token for each kind of prompt, over so many documents. Returns them by name."""
    with nextmem.open(folder) as bank:
        pairs = first_two_chunks(bank, documents)
        embeds = bank.latents([first for first, _ in pairs]).as_embeds()  # [N, K, D]
        texts = {row.chunk_id: row.text for row in bank.recalled(chunk_ids=[each for pair in pairs for each in pair])}
        backbone = load_backbone(bank.info().identity.backbone)
    nats: dict[str, list[float]] = {}
    for place, (first, second) in enumerate(pairs):
        text, asked = embedded(backbone, texts[first]), texts[second]
        prompts = {
            "the text": text,
            "its latents": embeds[place : place + 1],
            "nothing": text[:, :0],
            "foreign latents": embeds[place - 1 :][:1],
        }
        for name, prompt in prompts.items():
            nats.setdefault(name, []).append(nats_a_token(backbone, prompt, asked))
    means = {name: sum(values) / len(values) for name, values in nats.items()}
    for name, value in means.items():
        print(f"{name:<16} {value:.3f} nats a token of what follows")
    return means


def first_two_chunks(bank: nextmem.Bank, documents: int) -> list[tuple[str, str]]:
    """The ids of the first two chunks of the first documents that have two."""
    rows = bank.to_arrow(["doc_id", "position", "chunk_id"]).to_pylist()
    first = {row["doc_id"]: row["chunk_id"] for row in rows if row["position"] == 0}
    second = {row["doc_id"]: row["chunk_id"] for row in rows if row["position"] == 1}
    return [(first[doc], second[doc]) for doc in first if doc in second][:documents]


def embedded(backbone: Backbone, text: str) -> torch.Tensor:
    """[1, L, D]: the text as the backbone reads it."""
    return backbone.embed(torch.tensor([backbone.tokenizer.encode(text)], device=backbone.device))


@torch.inference_mode()
def nats_a_token(backbone: Backbone, prompt_1SD: torch.Tensor, asked: str) -> float:
    """How surprised the backbone is by the first tokens of `asked` after the prompt, which may be empty."""
    ids = backbone.tokenizer.encode(asked)[:CONTINUATION]
    start = torch.tensor([[backbone.end_token]], device=backbone.device)  # the backbone begins a document with it
    text = backbone.embed(torch.tensor([ids], device=backbone.device))
    inputs = torch.cat([backbone.embed(start), prompt_1SD.to(text), text], dim=1)
    logits = backbone.model(inputs_embeds=inputs).logits[0, -len(ids) - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids, device=logits.device)))


if __name__ == "__main__":
    main(sys.argv[1])
