"""The sharpness of a loss in the metric of an optimizer, by products with the Hessian."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from meansquare.watching.divisor import divisor, rate_of, stability_limit

Loss = Callable[[], Tensor]
LEAST = 8  # products: a residual may be small at an eigenvalue that is not the largest


@dataclass(frozen=True)
class Eigenvalue:
    """The largest eigenvalue, a bound on its distance to one, and the products that it took."""

    value: float
    error: float
    products: int


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue of P^-1/2 H P^-1/2, the largest that is stable, and their ratio, edge.

    P is what the optimizer divides gradients by. At an edge of 1 a longer step diverges along the
    sharpest direction.
    """

    sharpness: float
    limit: float
    products: int

    @property
    def edge(self) -> float:
        return self.sharpness / self.limit


def sharpness(optimizer: Optimizer, loss: Loss, products: int = 20) -> Sharpness:
    """How sharp the loss is for this optimizer, beside what its learning rate can stand.

    `loss` computes the loss (a scalar) anew, without a backward; it is called once, or 2*products
    times where it has no second derivative. Weights, gradients, state and random state stay as they
    are; buffers that a forward pass changes (BatchNorm's) do so here too. Weight decay is not
    counted. Groups may differ in learning rate and momentum: the figures are then in terms of the
    first group's.

    Raises RuntimeError before the first step of an optimizer that divides by a second moment.
    Source: Cohen et al. 2022, arXiv:2207.14484.
    """
    params, divisors = [], []
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.requires_grad:
                found = divisor(optimizer, group, p)
                if found is None and not _is_plain(group):
                    who = type(optimizer).__name__
                    raise RuntimeError(f"sharpness: {who} has no second moment yet; step it first")
                scale = stability_limit(group) / rate_of(group, optimizer.state.get(p, {}))
                params.append(p)
                divisors.append(scale * (torch.ones_like(p) if found is None else found))
    edge = largest_eigenvalue(loss, params, divisors, products=products)
    first = optimizer.param_groups[0]
    limit = stability_limit(first) / rate_of(first, optimizer.state.get(first["params"][0], {}))
    return Sharpness(edge.value * limit, limit, edge.products)


def _is_plain(group: dict) -> bool:
    """Whether its optimizer is gradient descent, which divides by nothing."""
    return not {"eps", "betas", "alpha"} & group.keys()


def largest_eigenvalue(
    loss: Loss,
    params: Sequence[Tensor],
    divisors: Sequence[Tensor],
    products: int = 20,
    tolerance: float = 0.01,
    seed: int = 0,
) -> Eigenvalue:
    """The largest eigenvalue of P^-1/2 H P^-1/2, P the diagonal of `divisors`, H the Hessian.

    Lanczos with full reorthogonalisation (Paige 1972) from a random vector of `seed`; it ends when
    the residual is below `tolerance` of the value. Where the loss has no second derivative, H is
    taken from differences of gradients. Changes neither weights, gradients nor random state.
    """
    devices = [p.device for p in params if p.device.type == "cuda"]
    with torch.random.fork_rng(dict.fromkeys(devices)):
        own = [torch.promote_types(p.dtype, torch.float32) for p in params]
        pairs = zip(divisors, own, strict=True)
        scales = torch.cat([d.detach().to(wide).reshape(-1).rsqrt() for d, wide in pairs])
        times = _hessian(loss, params)

        def scaled(x: Tensor) -> Tensor:
            return scales * times(scales * x).to(scales.dtype)

        return _lanczos(scaled, scales, products, tolerance, seed)


def _hessian(loss: Loss, params: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Multiplies a flat vector by the Hessian."""
    state = torch.random.get_rng_state()
    try:
        gradients = _gradients(loss, params, create_graph=True)
        products = _products(gradients, params)
        products(torch.zeros_like(gradients))
    except (RuntimeError, NotImplementedError):
        return _by_differences(loss, params, state)
    return products


def _products(gradients: Tensor, params: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    def times(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(
            gradients,
            params,
            vector.to(gradients.dtype),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return _flat(found)

    return times


def _gradients(loss: Loss, params: Sequence[Tensor], create_graph: bool = False) -> Tensor:
    with torch.enable_grad():
        found = torch.autograd.grad(
            loss(), params, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return _flat(found)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def _by_differences(
    loss: Loss, params: Sequence[Tensor], state: Tensor
) -> Callable[[Tensor], Tensor]:
    """(grad(p + h x) - grad(p - h x)) / 2h; h goes as the cube root of the precision."""
    kept = [p.detach().clone() for p in params]
    sizes = [p.numel() for p in params]
    size = float(_flat(kept).norm())
    least = torch.finfo(params[0].dtype).eps ** (1 / 3)

    def at(offset: Tensor) -> Tensor:
        torch.random.set_rng_state(state)  # the same dropout each time
        try:
            with torch.no_grad():
                for p, own, part in zip(params, kept, offset.split(sizes), strict=True):
                    p.copy_(own + part.view_as(own))
            return _gradients(loss, params)
        finally:
            with torch.no_grad():
                for p, own in zip(params, kept, strict=True):
                    p.copy_(own)

    def times(vector: Tensor) -> Tensor:
        length = float(vector.norm())
        if length == 0:
            return torch.zeros_like(vector)
        h = least * max(size, 1.0) / length
        return (at(h * vector) - at(-h * vector)) / (2 * h)

    return times


def _lanczos(
    times: Callable[[Tensor], Tensor], like: Tensor, products: int, tolerance: float, seed: int
) -> Eigenvalue:
    start = torch.randn(like.numel(), generator=torch.Generator().manual_seed(seed))
    vector = start.to(like)
    basis = [vector / vector.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    value, error = math.nan, math.inf
    for count in range(1, min(products, like.numel()) + 1):
        image = times(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # once is not enough in float32
            known = torch.stack(basis)
            image = image - known.T @ (known @ image)
        rest = float(image.norm())
        if not math.isfinite(diagonal[-1]) or not math.isfinite(rest):
            return Eigenvalue(math.nan, math.inf, count)
        values, vectors = np.linalg.eigh(
            np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        )
        value, error = float(values[-1]), rest * abs(float(vectors[-1, -1]))
        if (error <= tolerance * abs(value) and count >= LEAST) or rest == 0:
            break
        beside.append(rest)
        basis.append(image / rest)
    return Eigenvalue(value, error, len(diagonal))
