"""Steps that no graph holds. Imported only where graphs are made: it loads torch's compiler."""

from collections.abc import Callable
from typing import Any

import torch


def _step(opt: Any, closure: Callable[[], Any] | None) -> Any:
    return opt.step(closure)


step: Any = torch.compiler.disable(_step)
