"""The tasks: real data or a published generator, a small model, a loss, and a metric to report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal[
    "cnn", "rnn", "forecast", "agent", "stream", "fine-tuning", "rare", "table", "surface", "own"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Listing(NamedTuple):
    """Where a task is written, what kind of problem it is, and how many periods it trains for."""

    module: str
    kind: Kind
    epochs: int


TASKS: Mapping[str, Listing] = {
    "digits": Listing("digits", "cnn", 20),
    "mnist1d": Listing("mnist1d", "cnn", 10),
    "mnist1d-gru": Listing("mnist1d", "rnn", 8),
    "char-lstm": Listing("char_lstm", "rnn", 6),
    "co2": Listing("co2", "forecast", 12),
    "sunspots": Listing("sunspots", "forecast", 150),
    "demand": Listing("demand", "forecast", 60),
    "cartpole-a2c": Listing("a2c", "agent", 16),
    "cartpole-dqn": Listing("dqn", "agent", 16),
    "sea": Listing("streams", "stream", 20),
    "hyperplane": Listing("streams", "stream", 20),
    "phishing": Listing("streams", "stream", 10),
    "digits-fine-tuned": Listing("fine_tuning", "fine-tuning", 20),
    "rare-words": Listing("rare_words", "rare", 20),
    "long-tail": Listing("long_tail", "rare", 12),
    "wine": Listing("wine", "table", 200),
    "rosenbrock": Listing("surfaces", "surface", 20),
    "beale": Listing("surfaces", "surface", 20),
    "saddle": Listing("surfaces", "surface", 20),
    "ravine": Listing("surfaces", "surface", 20),
    "moving-quadratic": Listing("surfaces", "surface", 20),
}


@dataclass(frozen=True)
class Facts:
    """What the report says about a task; all of it is stored with the records.

    `baselines` are test metrics of methods that do not train a network; `target` is the validation
    metric that time-to-target waits for (None: the report derives one from the records); `epoch` is
    what one period of training is called; `events` tell after how many periods something happens
    (a drift); a training loss above `blow_up` times the first one is a divergence (None: only one
    that is not finite); `scale` is how the metric is best drawn.
    """

    name: str
    title: str
    kind: Kind
    model: str
    parameters: int
    batch_size: int
    sizes: Mapping[str, int]
    metric: str
    unit: str
    higher_is_better: bool
    baselines: Mapping[str, float]
    notes: str
    target: float | None = None
    epoch: str = "epoch"
    events: Mapping[str, float] = field(default_factory=dict)
    # RMSProp's undebiased first step, 10 * lr, multiplies the first loss by up to 30 in runs that
    # recover, and runs past 1000 never learned anything (measured on digits and co2).
    blow_up: float | None = 1000.0
    scale: Literal["linear", "log"] = "linear"


class Score(NamedTuple):
    """How good the weights are: the setting with the lowest last `loss` is chosen."""

    loss: float
    metric: float


class Problem(Protocol):
    """One run of a task: it hands out losses to be stepped on, and tells how good the weights are.

    All of its randomness comes from the seed that it was started with.
    """

    def parameters(self) -> Iterable[Tensor]:
        """What is trained."""
        ...

    def losses(self) -> Iterator[Tensor]:
        """The training losses of one period, each computed when asked for, at the weights then."""
        ...

    def validate(self) -> Score:
        """After each period, on data that are not in the test."""
        ...

    def test(self) -> float:
        """The metric on the test data; asked once, after the last period of a final run."""
        ...

    def series(self) -> Mapping[str, Sequence[float]]:
        """What else is worth a picture, as named numbers: the way over a surface (`x`, `y`)."""
        ...


class Task(Protocol):
    """A learning problem with its data; `start` draws a run's weights and order from the seed."""

    @property
    def facts(self) -> Facts: ...

    def start(self, seed: int) -> Problem: ...
