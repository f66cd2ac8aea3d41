"""A disk that is small enough to fill: a tmpfs of its own, which takes root to mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MEGABYTES = 24


class SmallDisk:
    """Mounted on `folder` for as long as the `with` block lasts."""

    def __init__(self, folder: Path):
        self.folder, self.ballast = folder, folder / "ballast"

    @staticmethod
    def why_not() -> str:
        """Why this machine can't have one; empty where it can."""
        return "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "mounting a small disk takes root"

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(self.folder)], check=True)
        return self

    def __exit__(self, *_) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self.ballast, "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        self.ballast.unlink()
