"""The reader: what it is asked beside others changes nothing, and nats are those of a plain forward."""

from __future__ import annotations

import pytest
import torch

from jobs.evaluate.reader import Prompt, Reader
from model.backbone import load_backbone


@pytest.fixture(scope="module")
def reader():
    return Reader(load_backbone("tiny-llama", precision="fp32", device="cpu"))


QUESTIONS = [Prompt().ask("From which pier does she sail?", "pier 3"), Prompt().ask("When?", "at 5:40 in the morning")]
TEXTS = ["The ferry Alma leaves Norrholm at 5:40 from pier 3.", "She sails at dawn."]


def test_a_prompt_is_what_it_says():
    question = Prompt("Read: {context}\nNow say: {question}\n").ask("Who?", "Ida")
    assert (question.before, question.after, question.answer) == ("Read: ", "\nNow say: Who?\n", " Ida")


def test_a_longer_prompt_beside_it_changes_no_answer(reader):
    contexts = [reader.embedded(text) for text in TEXTS]
    both = reader.read(contexts, QUESTIONS)
    for i in range(2):
        (alone,) = reader.read(contexts[i : i + 1], QUESTIONS[i : i + 1])
        assert alone.nats == pytest.approx(both[i].nats, abs=1e-3)
        assert (alone.tokens, alone.text) == (both[i].tokens, both[i].text)


def test_nats_are_those_of_one_forward_over_prompt_and_answer(reader):
    (answer,) = reader.read([reader.embedded(TEXTS[0])], QUESTIONS[:1])
    tokenizer = reader.backbone.tokenizer
    prompt = tokenizer.encode(QUESTIONS[0].before + TEXTS[0] + QUESTIONS[0].after)
    wanted = tokenizer.encode(QUESTIONS[0].answer)
    ids = torch.tensor([[reader.backbone.end_token, *prompt, *wanted]])
    with torch.inference_mode():
        logits = reader.backbone.model(ids).logits[0, -len(wanted) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted), reduction="sum")
    assert answer.tokens == len(wanted) and answer.nats == pytest.approx(float(loss), abs=1e-3)


def test_greedy_answers_are_those_of_transformers(reader):
    (answer,) = reader.read([reader.embedded(TEXTS[0])], QUESTIONS[:1])
    tokenizer = reader.backbone.tokenizer
    prompt = tokenizer.encode(QUESTIONS[0].before + TEXTS[0] + QUESTIONS[0].after)
    ids = torch.tensor([[reader.backbone.end_token, *prompt]])
    made = reader.backbone.model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    made = [int(i) for i in made if i != reader.backbone.end_token]
    assert answer.text == tokenizer.decode(made).strip().partition("\n")[0].strip()


def test_nothing_is_a_prompt_too_and_another_width_is_refused(reader):
    (answer,) = reader.read([reader.embedded("")], QUESTIONS[:1])
    assert answer.nats > 0
    with pytest.raises(ValueError, match="latents of width 32 before a reader of width 64"):
        reader.read([torch.zeros(3, 32)], QUESTIONS[:1])


def test_what_is_guessed_without_a_memory_is_a_share(reader):
    assert all(0 <= share <= 1 for share in reader.guessed(TEXTS))
