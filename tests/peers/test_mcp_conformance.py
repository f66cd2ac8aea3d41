"""The MCP project's own checks of what a server of tools has. `make test-peers` fetches them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = ("server-initialize", "ping", "tools-list", "dns-rebinding-protection")


@pytest.fixture(scope="module")
def url(articles):
    """The command, over HTTP, on a port of its own."""
    command = [sys.executable, "-m", "nextmem.cli", "mcp", articles, "--http", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    yield re.search(r"http://\S+/mcp", process.stderr.readline())[0]
    process.terminate()
    process.wait(60)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_server_passes(url, scenario, tmp_path):
    tools = os.environ["NEXTMEM_PEERS_NODE"]
    if not Path(tools, "conformance").exists():
        pytest.skip("npm brought no conformance checks: npm install, as the Makefile has it, brings them")
    command = [f"{tools}/node", f"{tools}/conformance", "server", "--url", url, "--scenario", scenario]
    command += ["-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed|Passed: [1-9]", done.stdout), done.stdout
