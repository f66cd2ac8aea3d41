"""Cross-entropy through a frozen LM head, a slice of labels at a time.

Shapes: N labels, R rows of a slice, D hidden width, V vocabulary. The head does not train, so the gradient of a slice's
states follows in the same pass, and no more than R rows of logits ever exist: 100 MB at V = 49,152 for 512 rows, where
a batch of 32 chunks would hold 0.8 GB of them twice.
"""

from __future__ import annotations

import torch

ROWS = {"cpu": 512, "cuda": 4096}


class HeadLoss(torch.autograd.Function):
    """`HeadLoss.apply(states_ND, weight_VD, labels_N)`: sum of losses, and number of labels whose argmax is right."""

    @staticmethod
    def forward(ctx, states_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor):
        rows = ROWS.get(states_ND.device.type, 512)
        gradients = []
        loss = torch.zeros((), device=states_ND.device)
        correct = torch.zeros((), device=states_ND.device)
        for states_RD, labels_R in zip(states_ND.split(rows), labels_N.split(rows), strict=True):
            logits_RV = (states_RD @ weight_VD.T).float()
            normaliser_R = logits_RV.logsumexp(-1)
            loss += (normaliser_R - logits_RV.gather(-1, labels_R[:, None])[:, 0]).sum()
            correct += (logits_RV.argmax(-1) == labels_R).sum()
            if ctx.needs_input_grad[0]:
                gradients.append(_gradient(logits_RV, normaliser_R, labels_R, weight_VD))
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx, gradient, _):
        (states_gradient_ND,) = ctx.saved_tensors
        return states_gradient_ND * gradient, None, None


def _gradient(logits_RV, normaliser_R, labels_R, weight_VD) -> torch.Tensor:
    """(softmax - one-hot) through the head, in its dtype; the logits' memory is used up."""
    error_RV = logits_RV.sub_(normaliser_R[:, None]).exp_()
    error_RV[torch.arange(len(labels_R), device=labels_R.device), labels_R] -= 1.0
    return error_RV.to(weight_VD.dtype) @ weight_VD
