"""`nextmem --help`: groups of commands, a line each."""

from __future__ import annotations

from collections import Counter

from nextmem.cli import GROUPS, main


def test_every_command_stands_in_one_group():
    assert Counter(command.name for commands in GROUPS.values() for command in commands) == Counter(list(main.commands))


def test_help_shows_the_groups_with_a_whole_line_for_each_command(nextmem, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = nextmem("--help").out.splitlines()
    for title, commands in GROUPS.items():
        at = lines.index(f"{title}:") + 1
        shown = [line.split(maxsplit=1) for line in lines[at : at + len(commands)]]
        assert shown == [[command.name, line] for command, line in commands.items()]
