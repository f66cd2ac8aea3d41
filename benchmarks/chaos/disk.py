"""A disk that is small enough to fill: a tmpfs of its own, which not every user may mount."""

from __future__ import annotations

import subprocess
from pathlib import Path


class NoSmallDiskError(RuntimeError):
    """This user may not mount one here."""


class SmallDisk:
    """Mounted on `folder` for as long as the `with` block lasts. Raises NoSmallDiskError on entering it."""

    def __init__(self, folder: Path, *, size: str = "24m"):
        self.folder, self.size, self.ballast = folder, size, folder / "ballast"

    def __enter__(self) -> SmallDisk:
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder)]
        if subprocess.run(command, capture_output=True).returncode:
            raise NoSmallDiskError("mounting a small disk takes root")
        return self

    def __exit__(self, *_) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)  # an actor may still hold a file

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
