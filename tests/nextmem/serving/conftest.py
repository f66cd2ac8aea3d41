"""A server of the articles."""

from __future__ import annotations

import shutil

import pytest
from serving import serving


@pytest.fixture(scope="module")
def client(tmp_path_factory, articles):
    """A server of a copy of the articles, for a file's tests that change nothing."""
    with serving(shutil.copytree(articles, tmp_path_factory.mktemp("served") / "bank")) as served:
        yield served
