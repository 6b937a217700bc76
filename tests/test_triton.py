"""The rules printed as Triton give the oracle's numbers in Triton's CPU interpreter."""

import os

import numpy as np
import oracle
import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "1")
triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

import triton.language as tl  # noqa: E402

from meansquare import Hyper  # noqa: E402
from meansquare.kernels.rules_gpu import RULES  # noqa: E402
from meansquare.rules import fold  # noqa: E402
from meansquare.spec import all_specs  # noqa: E402

# The interpreter computes with NumPy, whose / and sqrt are the rounded ones that div_rn and
# sqrt_rn name on a GPU; so no unit in the last place is allowed.
ULP = 0


@triton.jit
def elementwise(
    rule: tl.constexpr,
    data,
    n,
    scale,
    l2,
    keep,
    alpha,
    gain,
    debias,
    floor,
    eps,
    mu,
    lr,
    tiny,
    least,
    size: tl.constexpr,
):
    i = tl.arange(0, size)
    mask = i < n
    p = tl.load(data + i, mask)
    g = tl.load(data + n + i, mask)
    v = tl.load(data + 2 * n + i, mask)
    m = tl.load(data + 3 * n + i, mask)
    b = tl.load(data + 4 * n + i, mask)
    p, v, m, b = rule(
        p, g, v, m, b, scale, l2, keep, alpha, gain, debias, floor, eps, mu, lr, tiny, least
    )
    tl.store(data + i, p, mask)
    tl.store(data + 2 * n + i, v, mask)
    tl.store(data + 3 * n + i, m, mask)
    tl.store(data + 4 * n + i, b, mask)


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.key)
def test_every_printed_rule_equals_the_oracle(spec):
    options = oracle.options_of(spec) | {"weight_decay": 0.01, "bias_correction": True}
    hyper, n = Hyper(**options), 1003
    streams = np.random.default_rng(0).standard_normal((5, n)).astype(np.float32)
    streams *= 10.0 ** np.random.default_rng(1).choice([0, 0, -15, -19, -25, -37, -42], (5, n))
    streams[2] = streams[2] ** 2
    p, g, v, m, b = streams
    want = oracle.step(hyper, 3, p, g, v, m, b)
    data = torch.from_numpy(streams.copy())
    h = [float(np.float32(x)) for x in vars(fold(hyper, 3, "float32")).values()]
    elementwise[(1,)](RULES[spec.key], data, n, *h, size=1024)
    ours = dict(zip("pgvmb", data.numpy(), strict=True))
    for name, exact in want._asdict().items():
        if exact is not None:
            np.testing.assert_array_max_ulp(ours[name], exact, maxulp=ULP)
