"""What ends the stepping of parameters in backward."""

from torch import Tensor
from torch.utils.hooks import RemovableHandle


class InBackward:
    """The hooks of one `step_in_backward`; `remove()`, or the end of a `with`, takes them off."""

    def __init__(
        self, known: dict[Tensor, RemovableHandle], attached: dict[Tensor, RemovableHandle]
    ) -> None:
        self._known, self._attached = known, attached

    def remove(self) -> None:
        for p, handle in self._attached.items():
            handle.remove()
            self._known.pop(p, None)
        self._attached = {}

    def __enter__(self) -> "InBackward":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
