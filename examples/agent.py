"""An agent with a memory, turn by turn: it remembers what is said, and at each question recalls only what is needed.

Each question is answered four times, from the full history, from a text memory, from recalled text and from latents.
The last three have the same retrieval. The backbone reads and answers, or any endpoint that speaks OpenAI's chat
completions. Printed for each: nats a token of the reference answer (lower is better), how many answers hold it,
milliseconds from question to answer, and tokens of context.

    python examples/agent.py                                      # a conversation that lies beside this file
    python examples/agent.py --data retrieval_locomo --questions 10
    python examples/agent.py --endpoint http://localhost:8000/v1 --model qwen3

`--data` is a folder with corpus.parquet (id, text, group) and queries.parquet (question, answers, group), such as
LoCoMo or LongMemEval give.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field

import requests
import torch

import nextmem
from examples.conversations import Question, Turn, conversations_of
from model.backbone import Backbone, load_backbone
from nextmem.context import joined

PROMPT = "{context}\n\nQuestion: {question}\nAnswer in a few words.\nAnswer:"
FULL, TEXT, RECALLED, LATENTS = WAYS = ("full history", "text memory", "recalled text", "latents")
LONGEST = 24  # tokens of an answer
KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Answer:
    """`nats` a token of the reference, None from an endpoint."""

    said: str
    nats: float | None


@dataclass(slots=True)
class Tally:
    """One way's figures, a value a question."""

    nats: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Reader:
    """A backbone: it has a context, as text or as embeddings, and answers greedily."""

    def __init__(self, backbone: Backbone, window: int):
        self.backbone, self.window = backbone, window

    @torch.inference_mode()
    def answer(self, context: str | torch.Tensor, question: Question) -> Answer:
        """What it says, and how likely the reference is to it. A text longer than the window loses its beginning."""
        before, after = PROMPT.format(context="\0", question=question.text).split("\0")
        prompt = torch.cat([self._start(), self._embeds(before), self._read(context), self._embeds(after)])
        read = self.backbone.model(inputs_embeds=prompt[None], use_cache=True, logits_to_keep=1)
        reference = self.backbone.tokenizer.encode(" " + question.answer)
        nats = self._nats(read.past_key_values, read.logits[0], reference)
        read.past_key_values.crop(-len(reference))
        return Answer(self._greedy(read.past_key_values, read.logits[0, -1]), nats)

    def _read(self, context: str | torch.Tensor) -> torch.Tensor:
        return self._embeds(context) if isinstance(context, str) else context.to(self.backbone.dtype)

    def _start(self) -> torch.Tensor:
        """[1, D]: the backbone begins a document with it."""
        return self.backbone.embed(torch.tensor([self.backbone.end_token], device=self.backbone.device))

    def _embeds(self, text: str) -> torch.Tensor:
        ids = self.backbone.tokenizer.encode(text)[-self.window :] if text else []
        return self.backbone.embed(torch.tensor(ids, dtype=torch.long, device=self.backbone.device))

    def _nats(self, cache, logits_1V: torch.Tensor, ids: list[int]) -> float:
        asked = torch.tensor(ids, device=self.backbone.device)
        more = self.backbone.model(input_ids=asked[None], past_key_values=cache, use_cache=True).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(torch.cat([logits_1V, more]).float(), asked))

    def _greedy(self, cache, logits_V: torch.Tensor) -> str:
        """Up to the end of the first line that says something."""
        ids: list[int] = []
        while len(ids) < LONGEST:
            ids.append(int(logits_V.argmax()))
            if ids[-1] == self.backbone.end_token or "\n" in self.backbone.tokenizer.decode(ids).lstrip():
                break
            step = torch.tensor([[ids[-1]]], device=self.backbone.device)
            logits_V = self.backbone.model(input_ids=step, past_key_values=cache, use_cache=True).logits[0, -1]
        text = self.backbone.tokenizer.decode([each for each in ids if each != self.backbone.end_token])
        return text.strip().partition("\n")[0].strip()


class Endpoint:
    """Any server with OpenAI's chat completions. It reads texts alone."""

    def __init__(self, url: str, model: str):
        self.url, self.model = url.rstrip("/"), model

    def answer(self, context: str, question: Question) -> Answer:
        """Raises nextmem.Refusal where the endpoint fails or answers with something else."""
        asked = PROMPT.format(context=context, question=question.text)
        headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {}
        body = {"model": self.model, "messages": [{"role": "user", "content": asked}], "temperature": 0}
        try:
            reply = requests.post(f"{self.url}/chat/completions", json=body, headers=headers, timeout=120)
            reply.raise_for_status()
        except requests.RequestException as error:
            raise nextmem.Refusal(f"the endpoint {self.url} fails: {error}") from error
        try:
            return Answer(reply.json()["choices"][0]["message"]["content"].strip(), None)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise nextmem.Refusal(f"the endpoint {self.url} answers no chat completion: {reply.text[:80]!r}") from error


class Agent:
    """Remembers each turn in a bank and, to compare, as text. `steps`: how often it may search for one question."""

    def __init__(
        self,
        memory: nextmem.Memory,
        reader: Reader | Endpoint,
        *,
        budget: int,
        steps: int,
        of_latents: Reader | None = None,
    ):
        self.memory, self.reader, self.budget, self.steps = memory, reader, budget, steps
        self.of_latents = of_latents or reader
        self.texts: dict[str, str] = {}
        self.tallies = {way: Tally() for way in WAYS if way != LATENTS or isinstance(reader, Reader)}

    def hear(self, turn: Turn) -> None:
        """Encode it now."""
        self.memory.remember(turn.text, doc_id=turn.id)
        self.texts[turn.id] = turn.text

    def asked(self, question: Question) -> None:
        """Answer in every way, and note what it took."""
        count = self.memory.bank.codec().count_tokens
        for way, tally in self.tallies.items():
            start = time.perf_counter()
            context, tokens = self._context(way, question)
            answer = (self.of_latents if way == LATENTS else self.reader).answer(context, question)
            tally.milliseconds.append(1000 * (time.perf_counter() - start))
            tally.tokens.append(count(context) if tokens is None else tokens)
            tally.said.append(answer.said)
            tally.right.append(question.answer.lower() in answer.said.lower())
            if answer.nats is not None:
                tally.nats.append(answer.nats)

    def _context(self, way: str, question: Question) -> tuple[str | torch.Tensor, int | None]:
        """(what the reader reads, the positions it takes where they are known)."""
        if way == FULL:
            return "\n".join(self.texts.values()), None
        found = self._search(question)
        if way == RECALLED:
            return found.text, found.tokens
        if way == LATENTS:
            latents = self.memory.bank.latents([hit.chunk_id for hit in found.hits]).as_embeds().flatten(0, 1)
            return latents, len(latents)
        texts = {hit.chunk_id: self.texts[hit.doc_id][hit.char_start : hit.char_end] for hit in found.hits}
        return joined(found.hits, texts), None

    def _search(self, question: Question) -> nextmem.Context:
        """What fits into the budget, a quarter of the history at most. A further step knows what the last read."""
        budget = max(1, min(self.budget, self.memory.history_tokens() // 4))
        found = self.memory.context(question.text, tokens=budget)
        for _ in range(self.steps - 1):
            found = self.memory.context(f"{question.text} {found.text}", tokens=budget)
        return found


def play(conversation: list[Turn | Question], agent: Agent) -> None:
    """Everything in its order."""
    for event in conversation:
        if isinstance(event, Turn):
            agent.hear(event)
        else:
            agent.asked(event)


def require_what_holds(tallies: dict[str, Tally]) -> None:
    """Recalled text gives a text memory's answers letter for letter, from at most a quarter of the history."""
    assert tallies[RECALLED].said == tallies[TEXT].said and tallies[RECALLED].nats == tallies[TEXT].nats
    for way in (RECALLED, LATENTS):
        if way in tallies:
            assert all(4 * few <= all_ for few, all_ in zip(tallies[way].tokens, tallies[FULL].tokens, strict=True))


class Readers:
    """Who reads texts, and who reads latents: loaded for the first memory, and kept for those after it."""

    def __init__(self, window: int, of_texts: Endpoint | None = None):
        self.window, self.of_texts = window, of_texts
        self.of_latents: Reader | None = None

    def agent(self, memory: nextmem.Memory, *, budget: int, steps: int) -> Agent:
        """An agent with this memory."""
        if self.of_latents is None and not isinstance(self.of_texts, Endpoint):
            self.of_texts = Reader(load_backbone(memory.bank.identity.backbone), self.window)
            self.of_latents = Reader(memory.reader(), self.window)
        return Agent(memory, self.of_texts, budget=budget, steps=steps, of_latents=self.of_latents)


def play_one(
    conversation: list[Turn | Question], readers: Readers, *, budget: int, steps: int, codec: str | None
) -> dict[str, Tally]:
    """A conversation with a memory of its own: the figures of each way, which hold what they must."""
    with (
        tempfile.TemporaryDirectory() as folder,
        nextmem.Memory(nextmem.create(f"{folder}/bank", codec=codec)) as memory,
    ):
        agent = readers.agent(memory, budget=budget, steps=steps)
        play(conversation, agent)
    require_what_holds(agent.tallies)
    return agent.tallies


def main(
    data: str | None = None,
    *,
    conversations: int = 1,
    questions: int = 20,
    turns: int | None = None,
    budget: int = 256,
    steps: int = 1,
    window: int = 4096,
    codec: str | None = None,
    endpoint: str | None = None,
    model: str = "",
) -> dict[str, Tally]:
    """Play every conversation with a memory of its own; print the table. Returns the figures of each way."""
    whole: dict[str, Tally] = {}
    readers = Readers(window, Endpoint(endpoint, model) if endpoint else None)
    for conversation in conversations_of(data, conversations, questions, turns):
        for way, tally in play_one(conversation, readers, budget=budget, steps=steps, codec=codec).items():
            kept = whole.setdefault(way, Tally())
            for name in Tally.__slots__:
                getattr(kept, name).extend(getattr(tally, name))
    print(f"{'':<14} {'nats':>6} {'right':>8} {'ms':>7} {'tokens':>7}")
    for way, tally in whole.items():
        nats = f"{statistics.mean(tally.nats):.3f}" if tally.nats else "-"
        right = f"{sum(tally.right)} of {len(tally.right)}"
        middle, tokens = statistics.median(tally.milliseconds), statistics.mean(tally.tokens)
        print(f"{way:<14} {nats:>6} {right:>8} {middle:>7.0f} {tokens:>7.0f}")
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder with corpus.parquet and queries.parquet")
    parser.add_argument("--conversations", type=int, default=1, help="of --data, drawn with a fixed seed")
    parser.add_argument("--questions", type=int, default=20, help="of each of them, at most")
    parser.add_argument("--turns", type=int, help="of each that are heard, at most; default: all")
    parser.add_argument("--budget", type=int, default=256, help="tokens of context, at most")
    parser.add_argument("--steps", type=int, default=1, help="searches a question")
    parser.add_argument("--window", type=int, default=4096, help="tokens of the full history that are read: the last")
    parser.add_argument("--codec", help="a codec's folder; default: the one that ships")
    parser.add_argument("--endpoint", help="answer with this server, not with the backbone")
    parser.add_argument("--model", default="", help="the endpoint's model")
    main(**vars(parser.parse_args()))
