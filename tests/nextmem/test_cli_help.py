"""`nextmem --help`: groups of commands, a line each."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from nextmem.cli import GROUPS, main

COMMANDS = Path(__file__).parents[2] / "nextmem" / "commands"


def test_every_command_stands_in_one_group():
    assert Counter(command.name for commands in GROUPS.values() for command in commands) == Counter(list(main.commands))


def test_every_command_that_there_is_stands_in_a_group():
    """A new one has none until somebody says where a reader looks for it."""
    files = (path for path in COMMANDS.glob("*.py") if path.stem != "__init__")
    made = {
        name for path in files for name in re.findall(r"^@click\.command\(.*?^def (\w+)", path.read_text(), re.M | re.S)
    }
    grouped = {command.callback.__name__ for commands in GROUPS.values() for command in commands}
    assert made - grouped == set(), "put it into a group of GROUPS in nextmem/cli.py"


def test_help_shows_the_groups_with_a_whole_line_for_each_command(nextmem, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = nextmem("--help").out.splitlines()
    for title, commands in GROUPS.items():
        at = lines.index(f"{title}:") + 1
        shown = [line.split(maxsplit=1) for line in lines[at : at + len(commands)]]
        assert shown == [[command.name, line] for command, line in commands.items()]
