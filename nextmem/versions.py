"""A bank's past, and other banks: methods of `nextmem.Bank` that stand here for their number."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.cluster.session import set_variables
from model.refusal import Refusal
from nextmem.encoding import encode_request
from pipeline.bank.count import Told
from pipeline.bank.opened import open_bank

if TYPE_CHECKING:
    from jobs.encode.migrate import MigrateResult
    from jobs.encode.progress import EncodeProgress
    from nextmem.bank import Bank
    from pipeline.bank.diff import Diff
    from pipeline.bank.duplicates import Duplicates
    from pipeline.bank.history import Version
    from pipeline.bank.merge import Merged
    from pipeline.bank.restore import Restored


def history(self: Bank) -> list[Version]:
    """The versions that are kept, the oldest first: when, what was done, documents, chunks. Reads the log alone."""
    from pipeline.bank.history import history

    return list(history(self._open()))


def diff(self: Bank, old: int, new: int | None = None) -> Diff:
    """What changed from one version to another, or to the one this object stands on.

    The Diff has `added`, `changed` and `gone` as counts; iterating it gives the documents. Only files that the two do
    not share are read. Raises FileNotFoundError where a version was cleaned.
    """
    from pipeline.bank.diff import Diff

    table = self._open()
    later = table if new is None else open_bank(self.path, version=new)
    return Diff(open_bank(self.path, version=old), later)


def restore(self: Bank, version: int | None = None, *, time: datetime.datetime | str | None = None) -> Restored:
    """Make an older version's rows the newest version, in one commit; this object then stands on it.

    What came between stays in the history and can be restored in turn. The next encode brings back what its corpus has
    and that version had not. Raises FileNotFoundError where the version was cleaned, BusyError beside another job.
    """
    from pipeline.bank.restore import restore

    if (version is None) == (time is None):
        raise Refusal("give the version to restore, or a time")
    with self._lock:
        return restore(self._open(), open_bank(self.path, version=version, time=time))


def merge(self: Bank, *others: str | os.PathLike[str], on_conflict: str = "refuse") -> Merged:
    """Bring other banks' rows into this one's newest version, byte for byte, in one commit.

    A document that two hold with the same text comes once. With different texts, `on_conflict` decides: "refuse" names
    it, "skip" keeps the one of the bank that is named first, "newest" the one encoded last. The same call again brings
    what is missing. Their corpora count as encoded. Raises Refusal for another codec's bank, or one with columns that
    this one has not; BusyError beside a tend.
    """
    from pipeline.bank.merge import merge

    if not others:
        raise Refusal("give the banks to merge into this one")
    with self._lock:
        return merge(self._open(), [open_bank(os.fspath(each)) for each in others], on_conflict=on_conflict)


def migrate(
    self: Bank,
    out: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str] | None = None,
    backbone: str | None = None,
    keep_text: bool = False,
    keep_words: bool = False,
    refine: int | str | None = None,
    latents: int | None = None,
    bits: int | None = None,
    retry_rejected: bool = False,
    actors: int | None = None,
    gpus: bool | None = None,
    pool: str | None = None,
    on_progress: Callable[[EncodeProgress], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
    **settings: object,
) -> MigrateResult:
    """Encode this bank's documents anew, into the bank `out`, by another codec, backbone or precision, on Ray.

    Each document is recalled exactly and compared by its hash; one that is not is left out by name. The same call again
    goes on, or brings what is new. Without `codec` and `backbone` it is the codec of `out` where that is there, else
    this bank's, at the `precision` among the settings. The other arguments, and what is raised, are those of
    `nextmem.encode`.
    """
    set_variables()
    from dataclasses import replace

    from jobs.encode.migrate import run_migrate

    request = encode_request(
        (),
        out,
        codec=codec,
        backbone=backbone,
        text_column="text",
        id_column=None,
        columns=(),
        keep_text=keep_text,
        keep_words=keep_words,
        verify=True,
        refine=refine,
        latents=latents,
        bits=bits,
        retry_rejected=retry_rejected,
        actors=actors,
        gpus=gpus,
        pool=pool,
        **settings,
    )
    return run_migrate(replace(request, source=self._open().folder.uri), on_progress=on_progress, say=say)


def dedupe(
    self: Bank, threshold: float = 0.98, *, apply: bool = False, on_progress: Told = lambda done, of: None
) -> Duplicates:
    """Find copies: chunks with the same text, counted, and documents that another covers by their embeddings.

    A document is covered where each of its chunks has one in the other with a cosine of at least `threshold`. The
    result lists it in `found`, with the one that is kept. `apply` forgets what was found, in one commit, and
    `forget(undo=True)` brings it back. Raises ValueError for a threshold that is no cosine.
    """
    from pipeline.bank.duplicates import find_duplicates

    with self._lock:
        if apply:
            self.reload()
        found = find_duplicates(self._open(), threshold, on_progress=on_progress)
        if apply and found.found:
            self.forget([each.doc_id for each in found.found])
    return found
