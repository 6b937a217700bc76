"""A random run of a random optimizer, equal to the oracle's bit for bit after every step."""

import copy
import pickle
from dataclasses import dataclass, field

import numpy as np
import oracle
import torch
from snapshot import contents, one_line
from torch import Tensor, nn
from twins import kernels_of, parameters, through_a_file

from fuzz.inputs import DTYPES, KINDS, REALS, fill, gradient, laid_out, parameter, pick, settings
from meansquare.hyper import Hyper
from meansquare.kernels import cpu

HALVES = {torch.bfloat16: oracle.to_bfloat16, torch.float16: oracle.to_float16}


class DifferenceError(Exception):
    """What a step left is not what the oracle says."""


def flat(t: Tensor) -> np.ndarray:
    """The real numbers of a tensor in the order of its indices; halves as float32."""
    t = t.detach().resolve_conj()
    t = (torch.view_as_real(t) if t.is_complex() else t).contiguous().flatten()
    return (t.float() if t.dtype in HALVES else t).numpy().copy()


def places(p: Tensor) -> np.ndarray:
    """The place of each element among all of its tensor, in the order of memory."""
    address = np.array(p.stride(), dtype=int) @ np.indices(p.shape).reshape(p.dim(), p.numel())
    return np.argsort(np.argsort(address, kind="stable"))


@dataclass
class Twin:
    """What the oracle says of one parameter."""

    p: np.ndarray
    t: int = 0
    buffers: dict[str, np.ndarray] = field(default_factory=dict)

    def step(self, tensor: Tensor, hyper: Hyper, ordinal: int) -> None:
        kind, names = self.p.dtype, hyper.rule.buffers
        if hyper.STEP_IS_OF_BUFFERS and not set(names) <= set(self.buffers):
            self.t = 0
        self.t += 1
        old = [self.buffers.get(n, np.full(len(self.p), hyper.first(n), kind)) for n in names]
        streams = [x.astype(kind) for x in (flat(tensor.grad), *old)]
        new, *buffers = oracle.step(hyper, self.t, self.p, *streams)
        self.buffers |= dict(zip(names, buffers, strict=True))
        self.p[:] = self.rounded(new, tensor, hyper, ordinal)

    def rounded(self, p: np.ndarray, tensor: Tensor, hyper: Hyper, ordinal: int) -> np.ndarray:
        if tensor.dtype not in HALVES:
            return p
        bits = oracle.random_bits(len(p), hyper.seed, ordinal, self.t)[places(tensor)]
        return HALVES[tensor.dtype](p, bits).astype(np.float32)


class OracleTrial:
    """One optimizer, its parameters and what the oracle says of them."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.twins: list[Twin] = []
        self.kind = pick(self.random, KINDS)
        self.opt = self.kind(self.new_parameters(), **settings(self.random, self.kind))
        self.schedules: list = []
        self.saved: list = []
        self.elements = 0

    def new_parameters(self) -> list[nn.Parameter]:
        count = self.random.integers(1, 5)
        if self.random.random() < 0.1:
            return self.new_overlapping(count)
        params = [parameter(self.random) for _ in range(count)]
        self.twins += [Twin(flat(p)) for p in params]
        return params

    def new_overlapping(self, count: int) -> list[nn.Parameter]:
        """Pieces of one buffer, to be stepped one after the other."""
        buffer = fill(self.random, torch.empty(40, dtype=pick(self.random, REALS)))
        pieces = [slice(*sorted(self.random.integers(0, 41, 2).tolist())) for _ in range(count)]
        shared = flat(buffer)
        self.twins += [Twin(shared[piece]) for piece in pieces]
        return [nn.Parameter(buffer[piece]) for piece in pieces]

    def any_parameter(self) -> tuple[Tensor, Twin]:
        params = parameters(self.opt)
        i = self.random.integers(len(params))
        return params[i], self.twins[i]

    @np.errstate(all="ignore")
    def run(self) -> None:
        threads, instruction_set = torch.get_num_threads(), cpu.native.instruction_set()
        try:
            for _ in range(self.random.integers(3, 16)):
                pick(self.random, TURNS)(self)
                self.new_gradients()
                self.step()
        finally:
            torch.set_num_threads(threads)
            cpu.borrow_threads(cpu.native)
            cpu.native.use_instruction_set(instruction_set)

    def new_gradients(self) -> None:
        for p in parameters(self.opt):
            roll = self.random.random()
            if roll < 0.7:
                p.grad, p.grad_dtype = None, None
                p.grad = gradient(self.random, p) if roll < 0.6 else None

    def step(self) -> None:
        groups = self.opt.param_groups
        hypers = [self.kind._kind.checked(group, "") for group in groups for _ in group["params"]]
        for i, (p, hyper) in enumerate(zip(parameters(self.opt), hypers, strict=True)):
            if p.grad is not None:
                self.twins[i].step(p, hyper, i)
        self.opt.step()
        if kernels_of(self.opt) != {"cpu"}:
            raise DifferenceError("a row went to the reference")
        self.compare()
        for schedule in self.schedules:
            schedule.step()

    def compare(self) -> None:
        for i, (p, twin) in enumerate(zip(parameters(self.opt), self.twins, strict=True)):
            self.elements += len(twin.p)
            state, name = self.opt.state.get(p, {}), f"parameter {i} ({p.dtype}, {tuple(p.shape)})"
            same(name, flat(p), twin.p)
            if state.get("step", 0) != twin.t:
                raise DifferenceError(f"step of {name}: {state.get('step')}, the oracle's {twin.t}")
            for buffer, want in twin.buffers.items():
                same(f"{buffer} of {name}", flat(state[buffer]), want)


def same(what: str, ours: np.ndarray, exact: np.ndarray) -> None:
    plain = np.isnan(ours) & np.isnan(exact)
    if ours.dtype != exact.dtype:
        raise DifferenceError(f"{what} is {ours.dtype}, the oracle's {exact.dtype}")
    bits, wanted = (np.where(plain, 0, x).view(f"i{x.itemsize}") for x in (ours, exact))
    for i in np.flatnonzero(bits != wanted)[:1]:
        raise DifferenceError(f"{what}: element {i} is {ours[i]!r}, the oracle's {exact[i]!r}")


def new_numbers(trial: OracleTrial) -> None:
    group, new = pick(trial.random, trial.opt.param_groups), settings(trial.random, trial.kind)
    for name in trial.random.permutation(list(new))[: trial.random.integers(1, 5)]:
        group[str(name)] = new[str(name)]
    if not group.get("momentum", 1):
        group |= {name: False for name in ("nesterov", "lr_in_momentum") if name in group}
    if group.get("nesterov") and "dampening" in group:
        group["dampening"] = 0.0
    if trial.random.random() < 0.2:
        group["lr"] = torch.tensor(float(group["lr"]))


def new_schedule(trial: OracleTrial) -> None:
    rates = torch.optim.lr_scheduler
    make = pick(trial.random, (rates.StepLR, rates.ExponentialLR, rates.CosineAnnealingLR))
    amounts = {rates.StepLR: (2,), rates.ExponentialLR: (0.9,), rates.CosineAnnealingLR: (5,)}
    for group in trial.opt.param_groups:
        group.pop("initial_lr", None)
        group["lr"] = float(group["lr"])
    trial.schedules = [make(trial.opt, *amounts[make])]


def other_threads(trial: OracleTrial) -> None:
    torch.set_num_threads(int(pick(trial.random, (1, 2, 3, 7))))
    if trial.random.random() < 0.5:
        cpu.native.borrow_threads("")
    else:
        cpu.borrow_threads(cpu.native)
    cpu.native.use_instruction_set(pick(trial.random, cpu.native.instruction_sets()))


def move(trial: OracleTrial) -> None:
    """Storage, layout and perhaps dtype change under the same Parameter."""
    p, twin = trial.any_parameter()
    kinds = [d for d in DTYPES if d.is_complex == p.is_complex()]
    dtype = p.dtype if trial.random.random() < 0.6 else pick(trial.random, kinds)
    p.grad = None
    p.data = laid_out(trial.random, tuple(p.shape), dtype).copy_(p.data)
    twin.p = flat(p)


def move_state(trial: OracleTrial) -> None:
    p, twin = trial.any_parameter()
    state = trial.opt.state.get(p, {})
    for name in twin.buffers:
        moved = laid_out(trial.random, tuple(p.shape), state[name].dtype).copy_(state[name])
        if trial.random.random() < 0.5:
            state[name] = moved
        else:
            state[name].data = moved


def forget(trial: OracleTrial) -> None:
    p, twin = trial.any_parameter()
    trial.opt.state[p] = {}
    twin.t, twin.buffers = 0, {}


def resize(trial: OracleTrial) -> None:
    forget(trial)
    p, twin = trial.any_parameter()
    trial.opt.state.pop(p, None)
    p.grad, p.data = None, parameter(trial.random).data
    twin.p, twin.t, twin.buffers = flat(p), 0, {}


def add_group(trial: OracleTrial) -> None:
    trial.opt.add_param_group(
        {"params": trial.new_parameters(), **settings(trial.random, trial.kind)}
    )
    trial.schedules = []


def save(trial: OracleTrial) -> None:
    shapes = [(p.shape, p.is_complex()) for p in parameters(trial.opt)]
    trial.saved.append((through_a_file(trial.opt.state_dict()), copy.deepcopy(trial.twins), shapes))


def load(trial: OracleTrial) -> None:
    """The state of now, or one of before where parameters are still as they were."""
    save(trial)
    now = trial.saved[-1]
    fitting = [then for then in trial.saved if then[2] == now[2]]
    state_dict, twins, _ = pick(trial.random, (now, fitting[0]))
    if trial.random.random() < 0.5:
        trial.opt = trial.kind([{"params": group["params"]} for group in trial.opt.param_groups])
        trial.schedules = []
    trial.opt.load_state_dict(state_dict)
    for now, then in zip(trial.twins, twins, strict=True):
        now.t = then.t
        now.buffers = {name: x.astype(now.p.dtype) for name, x in then.buffers.items()}
    trial.saved = []


def copied(trial: OracleTrial) -> None:
    both = (trial.opt, parameters(trial.opt))
    for p in both[1]:
        p.grad = None
    pickled = trial.random.random() < 0.5
    trial.opt, params = pickle.loads(pickle.dumps(both)) if pickled else copy.deepcopy(both)
    for p, twin in zip(params, trial.twins, strict=True):
        p.data, twin.p = p.data.clone(), twin.p.copy()
    trial.schedules = []


def refused(trial: OracleTrial) -> None:
    """An error in one row, or one number, leaves every byte as it was."""
    trial.new_gradients()
    p, _ = trial.any_parameter()
    group = pick(trial.random, trial.opt.param_groups)
    kept = {k: v for k, v in group.items() if k != "params"}
    p.grad = torch.ones_like(p) if p.grad is None else p.grad
    if trial.random.random() < 0.5:
        p.grad = torch.ones(p.shape, dtype=p.dtype).to_sparse()
    else:
        numbers = [name for name in ("lr", "alpha", "eps", "momentum", "betas") if name in group]
        wrong = (np.nan, -1.0, "much", None, torch.tensor(np.nan))
        group[str(pick(trial.random, numbers))] = pick(trial.random, wrong)
    before = contents(trial.opt)
    try:
        trial.opt.step()
    except (TypeError, ValueError) as error:
        if not one_line(error):
            raise DifferenceError(f"not one line of ours: {error!r}") from error
    else:
        raise DifferenceError("a bad row was not refused")
    if contents(trial.opt) != before:
        raise DifferenceError("a refused step changed something")
    group.update(kept)
    p.grad = None


TURNS = (
    new_numbers,
    new_numbers,
    new_schedule,
    other_threads,
    move,
    move_state,
    forget,
    resize,
    add_group,
    save,
    load,
    copied,
    refused,
)
