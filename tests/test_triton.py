"""The rules printed as Triton give the oracle's numbers in Triton's CPU interpreter."""

import os

import numpy as np
import oracle
import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "1")
triton = pytest.importorskip("triton", reason="Triton is not installed on this platform")

import triton.language as tl  # noqa: E402
from members import MEMBERS  # noqa: E402

from meansquare.kernels.rules_gpu import RULES  # noqa: E402
from meansquare.trace import folded  # noqa: E402

# The interpreter computes with NumPy, whose / and sqrt are the rounded ones that div_rn and
# sqrt_rn name on a GPU; so no unit in the last place is allowed.
ULP = 0


@triton.jit
def elementwise(rule: tl.constexpr, h, data, n, size: tl.constexpr):
    i = tl.arange(0, size)
    mask = i < n
    p = tl.load(data + i, mask)
    g = tl.load(data + n + i, mask)
    s0 = tl.load(data + 2 * n + i, mask)
    s1 = tl.load(data + 3 * n + i, mask)
    s2 = tl.load(data + 4 * n + i, mask)
    p, s0, s1, s2 = rule(h, p, g, s0, s1, s2)
    tl.store(data + i, p, mask)
    tl.store(data + 2 * n + i, s0, mask)
    tl.store(data + 3 * n + i, s1, mask)
    tl.store(data + 4 * n + i, s2, mask)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.key)
def test_every_printed_rule_equals_the_oracle(member):
    hyper, n = member.hyper(**member.extras[-1]), 1003
    streams = np.random.default_rng(0).standard_normal((5, n)).astype(np.float32)
    streams *= 10.0 ** np.random.default_rng(1).choice([0, 0, -15, -19, -25, -37, -42], (5, n))
    for i, name in enumerate(hyper.rule.buffers, start=2):
        streams[i] = np.abs(streams[i]) if name in hyper.SQUARES else streams[i]
    p, g, *buffers = streams[: 2 + len(hyper.rule.buffers)]
    want = oracle.step(hyper, 3, p, g, *buffers)
    data = torch.from_numpy(streams.copy())
    h = folded(hyper.rule.traced().tape, vars(hyper.at(3.0, "float32")))
    elementwise[(1,)](RULES[hyper.rule.key], torch.tensor(h), data, n, size=1024)
    written = np.delete(data.numpy(), 1, axis=0)[: len(want)]
    for ours, exact in zip(written, want, strict=True):
        np.testing.assert_array_max_ulp(ours, exact, maxulp=ULP)
