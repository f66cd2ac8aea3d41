"""The bar of an encode job: what it waits for, then how far it is."""

from __future__ import annotations

from jobs.encode.progress import EncodeProgress
from nextmem.commands.progress import EncodeBar


def test_the_bar_says_that_encoders_load_until_there_is_a_chunk(capsys):
    with EncodeBar(as_json=False) as bar:
        bar(EncodeProgress(chunks=0, of=10, rejected=0))
        waiting = capsys.readouterr().err
        bar(EncodeProgress(chunks=4, of=10, rejected=0))
    assert "encoders load the backbone" in waiting and "encoding" not in waiting
    last = capsys.readouterr().err.rsplit("\r", 1)[-1]
    assert last.startswith("encoding") and "4/10" in last
