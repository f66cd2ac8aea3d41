"""`python -m nextmem` is the command."""

from __future__ import annotations

import sys

from nextmem.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="nextmem"))
