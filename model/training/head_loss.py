"""Cross-entropy through a frozen LM head, a slice of labels at a time.

Shapes: N labels, R rows of a slice, D hidden width, V vocabulary. The head does not train, so the gradient of a slice's
states follows in the same pass, and no more than R rows of logits ever exist: 100 MB at V = 49,152 for 512 rows, where
a batch of 32 chunks would hold 0.8 GB of them twice.
"""

from __future__ import annotations

from functools import cache

import torch

ROWS = {"cpu": 512, "cuda": 4096}
COMPILED_ROWS = {"cpu": 128, "cuda": 4096}  # on a CPU what stays in its cache


class HeadLoss(torch.autograd.Function):
    """`HeadLoss.apply(states_ND, weight_VD, labels_N, compiled)`: sum of losses, and how many argmaxes are right."""

    @staticmethod
    def forward(ctx, states_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor, compiled: bool = False):
        rows = (COMPILED_ROWS if compiled else ROWS).get(states_ND.device.type, 512)
        gradients = []
        loss = torch.zeros((), device=states_ND.device)
        correct = torch.zeros((), device=states_ND.device)
        for states_RD, labels_R in zip(states_ND.split(rows), labels_N.split(rows), strict=True):
            if compiled and ctx.needs_input_grad[0]:
                slice_loss, slice_correct, gradient_RD = _fused()(states_RD, weight_VD, labels_R)
                loss += slice_loss
                correct += slice_correct
                gradients.append(gradient_RD)
                continue
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
        return states_gradient_ND * gradient, None, None, None


def _gradient(logits_RV, normaliser_R, labels_R, weight_VD) -> torch.Tensor:
    """(softmax - one-hot) through the head, in its dtype; the logits' memory is used up."""
    error_RV = logits_RV.sub_(normaliser_R[:, None]).exp_()
    error_RV[torch.arange(len(labels_R), device=labels_R.device), labels_R] -= 1.0
    return error_RV.to(weight_VD.dtype) @ weight_VD


@cache
def _fused():
    """Loss, number right and the states' gradient of one slice, compiled: three passes over the logits in all."""

    def fused(states_RD, weight_VD, labels_R):
        logits_RV = (states_RD @ weight_VD.T).float()
        normaliser_R = logits_RV.logsumexp(-1)
        loss = (normaliser_R - logits_RV.gather(-1, labels_R[:, None])[:, 0]).sum()
        correct = (logits_RV.argmax(-1) == labels_R).sum()
        error_RV = (logits_RV - normaliser_R[:, None]).exp()
        is_label_RV = torch.arange(logits_RV.shape[-1], device=labels_R.device) == labels_R[:, None]
        error_RV = torch.where(is_label_RV, error_RV - 1.0, error_RV)
        return loss, correct, error_RV.to(weight_VD.dtype) @ weight_VD

    return torch.compile(fused)
