"""`nextmem train --system reader`: a reader beside a codec that stays as it was, stopped and gone on with, refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file

import nextmem
from jobs.train.exercises import Exercises, choose_passages
from jobs.train.questions import questions_of
from jobs.train.reader import ReaderRequest, run_reader
from model.backbone import load_backbone
from model.bytes_tokenizer import bytes_tokenizer
from model.codec_folder import READER_TENSORS, SETTINGS, TENSORS
from model.codec_io import load_codec
from model.reader import has_reader, load_reader
from model.tokens import TextTokenizer
from model.training.reading import ANSWER, CONTINUATION, WITHOUT, Reader
from model.training.reading_trainer import ReaderConfig, ReaderTrainer

pytestmark = pytest.mark.training

PLACES = ("Oslo", "Lima", "Bern", "Riga", "Rome", "Kyiv", "Nara", "Doha", "Bonn", "Cork", "Brno", "Pisa")
TEXTS = [f"We all met {101 * n} men in {place}." for n, place in enumerate(PLACES, 1)]
SHORT = {"steps": 4, "batch_size": 6, "micro_batch": 3, "held_out": 3, "eval_every": 2, "warmup_steps": 1,
         "precision": "fp32"}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def train(run, data, codec, **more):
    settings = SHORT | more.pop("settings", {})
    return run_reader(ReaderRequest(str(run), (data,), str(codec), settings, **more))


@pytest.fixture
def trainer(tiny_codec_folder):
    """trainer(reads): on the tiny codec, with the exercises."""

    def make(reads="latents"):
        codec = load_codec(tiny_codec_folder, device="cpu", precision="fp32")
        backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
        config = ReaderConfig(**(SHORT | {"reads": reads, "learning_rate": 1e-2}))
        return ReaderTrainer(Reader(codec, backbone, reads=reads), config)

    return make


TOKENIZER = TextTokenizer(bytes_tokenizer())


def exercises():
    return Exercises(TEXTS, TOKENIZER, chunk_tokens=32, held_out=3, seed=0)


def test_a_codec_with_a_reader_makes_and_recalls_the_same_bank_byte_for_byte(tmp_path, data, tiny_codec_folder):
    made = train(tmp_path / "run", data, tiny_codec_folder)
    assert has_reader(made) and not has_reader(tiny_codec_folder)
    for name in (SETTINGS, TENSORS):
        assert (made / name).read_bytes() == (tiny_codec_folder / name).read_bytes()
    banks = []
    for place, codec in enumerate((tiny_codec_folder, made)):
        with nextmem.create(tmp_path / f"bank-{place}", codec=codec, precision="fp32") as bank:
            bank.remember([{"doc_id": str(n), "text": text} for n, text in enumerate(TEXTS)])
            rows = bank.to_arrow().drop_columns(["encoded_at", "unit"]).sort_by("doc_id")
            banks.append((bank.identity, rows, [bank.recall(doc_id=str(n)) for n in range(len(TEXTS))]))
    (identity, rows, texts), (other_identity, other_rows, other_texts) = banks
    assert identity == other_identity and rows.equals(other_rows)
    assert texts == other_texts == TEXTS


def test_a_run_that_is_stopped_goes_on_to_the_same_reader(tmp_path, data, tiny_codec_folder):
    whole = train(tmp_path / "whole", data, tiny_codec_folder)
    stopped = 0
    while train(tmp_path / "parts", data, tiny_codec_folder, minutes=0) is None:
        stopped += 1
    assert stopped == SHORT["steps"]
    mine, other = (load_file(tmp_path / run / "codec" / READER_TENSORS) for run in ("parts", "whole"))
    assert mine.keys() == other.keys() and all(mine[name].equal(other[name]) for name in mine)
    rows = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["event"] == "reader_step"] == [0, 1, 2, 3]
    looks = [row for row in rows if row["event"] == "reader"]
    assert looks[0]["at_end"] == 0 and looks[-1]["at_end"] == 4 and looks[0]["text"] == looks[-1]["text"]
    assert "held-out questions" in (whole / "READER.md").read_text()


def test_the_latest_checkpoint_is_written_as_a_codec_while_the_run_stays(tmp_path, data, tiny_codec_folder):
    assert train(tmp_path / "run", data, tiny_codec_folder, minutes=0) is None
    made = train(tmp_path / "run", data, tiny_codec_folder, export=str(tmp_path / "early"))
    assert has_reader(made) and not (tmp_path / "run" / "codec").exists()
    assert "steps=1," in (made / "READER.md").read_text()


def test_the_command_goes_on_by_the_folder_alone_and_refuses_what_does_not_fit(
    nextmem, refused, tmp_path, data, tiny_codec_folder
):
    run, sets = tmp_path / "run", [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    assert "name passages with --data" in refused("train", run, "--system", "reader")
    assert "leave out workers" in refused("train", run, "--system", "reader", "--data", data, "--workers", 2)
    few = refused("train", run, "--system", "reader", "--data", data, "--init", tiny_codec_folder)
    assert "12 passages in" in few and "of which 128 are to be held out" in few
    assert not run.exists()
    start = ("train", run, "--system", "reader", "--data", data, "--init", tiny_codec_folder, *sets)
    assert nextmem(*start, "--minutes", 0).code == 0
    assert "batch_size is 6, asked for 9" in refused("train", run, "--set", "batch_size=9")
    assert "--change goes on with the new ones" in refused("train", run, "--set", "steps=3")
    ran = nextmem("train", run, "--set", "steps=3", "--change")
    assert ran.code == 0 and ran.out.strip() == str(run / "codec") and "an answer's token costs" in ran.err
    assert "there are head, reader, " in refused("train", tmp_path / "no", "--system", "what", "--data", data)


def test_a_reader_of_text_reads_no_latents(tmp_path, data, tiny_codec_folder):
    made = train(tmp_path / "run", data, tiny_codec_folder, settings={"reads": "text"})
    with pytest.raises(ValueError, match="was trained on text, to compare with"):
        load_reader(made, precision="fp32")


def test_training_moves_the_reader_and_not_the_codec(trainer):
    taught, batch = trainer(), exercises().batch(0, 6)
    before = taught.reader.encoded(batch)
    losses = [taught.step(batch, step) for step in range(12)]
    assert losses[-1]["answer"] < 0.7 * losses[0]["answer"] and losses[-1]["continuation"] < losses[0]["continuation"]
    after = taught.reader.encoded(batch)
    assert all(before[key].equal(after[key]) for key in before)


def test_a_reader_of_text_that_has_not_trained_is_its_teacher(trainer):
    taught = trainer("text")
    (loss_B,) = [taught.reader.losses([each for each in exercises().batch(1, 12) if each.kind == CONTINUATION], {})]
    assert loss_B.abs().max() < 1e-5
    looked = taught.look(exercises().looked_at())
    assert looked.memory == pytest.approx(looked.text) == pytest.approx(looked.plain) and looked.questions == 3
    assert looked.gap_closed == pytest.approx(1.0)


def test_half_of_a_batch_continues_a_third_answers_and_the_rest_has_no_memory_of_its_own():
    made, decode = exercises(), TOKENIZER.decode
    batches = [made.batch(step, 12) for step in range(6)]
    for batch in batches:
        assert [each.kind for each in batch] == [CONTINUATION] * 6 + [ANSWER] * 4 + [WITHOUT] * 2
    held_out = set(TEXTS[:3])
    for each in (exercise for batch in batches for exercise in batch):
        known = [decode(chunk) for chunk in each.chunks]
        assert not held_out & set(known)
        answer = decode(each.target).strip()
        if each.kind == ANSWER:
            assert any(answer in text for text in known) and "Which" in decode(each.after)
        elif each.kind == WITHOUT:
            assert not any(answer in text.split() for text in known)
        else:
            assert "".join(known) + decode(each.target) in TEXTS
    again = exercises().batch(3, 12)
    assert all(np.array_equal(one.target, other.target) for one, other in zip(batches[3], again, strict=True))


def test_passages_are_drawn_whatever_order_they_come_in():
    assert choose_passages(TEXTS, 5, 1) == choose_passages(reversed(TEXTS), 5, 1) != choose_passages(TEXTS, 5, 2)


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("Ada Lund was born on 3 May 1902 in a small town.", "When was Ada Lund born?", "3 May 1902"),
        ("The Old Mill was built in 1850 by two brothers.", "When was The Old Mill built?", "1850"),
        ("Night Train was directed by Ada Lund and Bo Ek.", "By whom was Night Train directed?", "Ada Lund"),
        ("Halden Fort is located in Norway near the border.", "Where is Halden Fort?", "Norway"),
        ("Cubanite is a yellow mineral of copper and iron.", "What is Cubanite?", "yellow mineral"),
    ],
)
def test_a_sentence_that_says_when_where_what_or_by_whom_becomes_a_question(sentence, question, answer):
    asked = questions_of(sentence, np.random.default_rng(0))[0]
    assert (asked.question, asked.answer) == (question, answer)


def test_a_name_or_a_number_is_asked_for_in_its_sentence_and_a_pronoun_is_nobody():
    (asked,) = questions_of("She was born in 1902 and moved away.", np.random.default_rng(0))
    assert (asked.question, asked.answer) == ("Which number is missing? She was born in ___ and moved away.", "1902")
    assert questions_of("no names and no numbers stand in here", np.random.default_rng(0)) == []
