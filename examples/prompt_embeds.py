"""A prompt as embeddings for an inference engine: text, then a memory's latents, then text again, as one [S, D] tensor.

vLLM takes it as `{"prompt_embeds": tensor}` where it was started with `enable_prompt_embeds`; its server takes the file
that this writes, in base64. The model must be the bank's backbone. docs/agent.md has the recipe.

    python examples/prompt_embeds.py bank "When does the ferry leave?" prompt.pt
"""

from __future__ import annotations

import sys

import torch

import nextmem
from model.backbone import Backbone, load_backbone

BEFORE, AFTER = "", "\n\nQuestion: {question}\nAnswer in a few words.\nAnswer:"


def main(folder: str, question: str, out: str, tokens: int = 150) -> torch.Tensor:
    """Write the prompt, with as many chunks as fit into so many positions, best first. Returns it."""
    with nextmem.Memory(folder, read_only=True) as memory:
        context = memory.context(question, tokens=tokens, as_="latents")
        backbone = load_backbone(memory.bank.identity.backbone)
        prompt = prompt_embeds(backbone, BEFORE, context, AFTER.format(question=question))
    torch.save(prompt, out)
    print(f"{len(context.hits)} chunks take {context.tokens} positions; as text they took {context.text_tokens}")
    print(f"{out}: {tuple(prompt.shape)}, {prompt.dtype}")
    return prompt


def prompt_embeds(backbone: Backbone, before: str, context: nextmem.Context, after: str) -> torch.Tensor:
    """[S, D] on the CPU, in the backbone's dtype: the start token, a text, the latents, a text."""
    start = [backbone.end_token]  # the backbone begins a document with it
    ids = [start + backbone.tokenizer.encode(before), backbone.tokenizer.encode(after)]
    first, last = (backbone.embed(torch.tensor(each, device=backbone.device)) for each in ids)
    latents = context.embeds if context.hits else first[:0]
    return torch.cat([first, latents.to(first), last]).detach().cpu()


if __name__ == "__main__":
    main(*sys.argv[1:4])
