"""What is computed must be a number: NaN passes every comparison for the wrong reason, so it is stopped at its source.

`lead <= margin` is False for NaN, which would count as certain. So latents, leads, embeddings and scales are looked at
where they are made, once a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


MACHINE = "The device, its precision or the codec is at fault: try another device, or --set precision=fp32."


class NotFiniteError(ArithmeticError):
    """A number that a machine or a codec got wrong. Never a document's fault."""


def require_finite(values: torch.Tensor, what: str, *, rows: str = "row", advice: str = MACHINE) -> None:
    """Raises NotFiniteError that names the first row of `values` [B, ...] with NaN or infinity, and how many are odd.

    `rows` says what a row is, `advice` what to do.
    """
    finite = values.isfinite()
    if bool(finite.all()):
        return
    odd_B = (~finite).reshape(len(values), -1).any(dim=1)
    first, count = int(odd_B.nonzero()[0]), int(odd_B.sum())
    others = f" and {count - 1} others" if count > 1 else ""
    raise NotFiniteError(
        f"{what} not finite on {values.device} in {str(values.dtype).removeprefix('torch.')}: "
        f"{rows} {first} of {len(values)}{others}. {advice}"
    )
