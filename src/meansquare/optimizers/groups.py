"""Parameter groups that most trainings want."""

from typing import Any

from torch import nn

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of a model's named parameters: weights, which decay, and the rest, which do not.

    The rest are biases, the parameters of normalisation layers and whatever has less than two
    dimensions, such as the scales of normalisation layers that are not torch's own.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.LSTM(2, 2))
    >>> for group in decay_groups(model, 0.01):
    ...     print(group["weight_decay"], *(name for name, _ in group["params"]))
    0.01 0.weight 2.weight_ih_l0 2.weight_hh_l0
    0.0 0.bias 1.weight 1.bias 2.bias_ih_l0 2.bias_hh_l0
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, p in model.named_parameters():
        owner, _, own_name = name.rpartition(".")
        is_norm = isinstance(model.get_submodule(owner), _NORMS)
        is_bias = own_name.startswith("bias") or own_name.endswith("bias")
        groups[is_norm or is_bias or p.dim() < 2]["params"].append((name, p))
    return [group for group in groups if group["params"]]
