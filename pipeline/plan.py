"""A corpus becomes work units, once: `plan_corpus` scans the input or finds the plan stored by an earlier run.

Two steps, so that a restart does not read the text again and still sees what the bank holds now:

    plan_corpus  listing, columns, unit size -> a stored plan   depends on the input only
    Plan.against stored plan, bank's present state -> Work      always run: what is left to encode

A unit is closed when the next document would pass `unit_chunks` estimated chunks (UTF-8 bytes / 512, at least one a
document), and at the end of a file that holds at least half as many, so that rows appended to one large file leave the
units of the next as they were. Neither depends on how many workers there are.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import batched, groupby
from typing import NamedTuple

import numpy as np

from pipeline import storage
from pipeline.corpus import IGNORED, Corpus, InputFile, Span
from pipeline.documents import Columns, Document, Rejected
from pipeline.fields import settled
from pipeline.plan_file import Counts, Planned, PlanFile, PlanWriter
from pipeline.readers import read_span
from pipeline.seen import BATCH, First, HeldIndex, SeenIndex
from pipeline.units import Conflict, Unit, UnitDigest, conflicting
