"""What will hurt: the state and settings of an RMSProp, whoever wrote it, looked through."""

import os
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from meansquare.checkpoint import read_checkpoint
from meansquare.diagnosis import meaning, numbers
from meansquare.diagnosis.finding import Finding
from meansquare.diagnosis.patient import Patient
from meansquare.settings import shown, told_by
from meansquare.state import check_form

__all__ = ["Finding", "doctor"]

HAZARDS = (
    numbers.broken_state,
    numbers.impossible_settings,
    numbers.centered_variance,
    numbers.half_precision,
    numbers.small_eps,
    numbers.stuck_moments,
    meaning.first_steps,
    meaning.ignored_momentum,
    meaning.missing_buffers,
    meaning.positions,
    meaning.reinterpretation,
)


def doctor(patient: Optimizer | Mapping[str, Any] | str | os.PathLike[str]) -> list[Finding]:
    """What in an optimizer, in its state dict or in a file of it will hurt, with the evidence.

    The optimizer is an RMSProp: torch's, timm's, Stable-Baselines3's, bitsandbytes' or ours; of
    another only its state is looked at. Nothing is changed and a file runs nothing. Each finding
    tells what is wrong and where, the figure that was measured in this very state, and a remedy.

    Raises OSError, ValueError or TypeError as `read_checkpoint` does, and TypeError for what is
    neither an optimizer, a state dict nor a path.

    >>> import torch
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> for finding in doctor(torch.optim.RMSprop([p], momentum=0.9)):
    ...     print(finding)
    first steps too long in group 0: at the first step gradients of one size and sign move a \
weight by 10.0 lr, and by up to 29.9 lr at step 11; 10.0 lr is what lr, alpha and momentum are \
chosen for; remedy: RMSProp(..., bias_correction=True), or a warm-up over some 100 steps
    """
    with told_by("doctor"):
        if isinstance(patient, Optimizer):
            held = Patient.of_optimizer(patient)
        elif isinstance(patient, (str, os.PathLike)):
            held = Patient.of_state_dict(read_checkpoint(patient))
        elif isinstance(patient, Mapping):
            check_form(patient)
            held = Patient.of_state_dict(patient)
        else:
            raise TypeError(
                f"takes an optimizer, a state dict or the path of a file, got {shown(patient)}"
            )
        return [finding for hazard in HAZARDS for finding in hazard(held)]
