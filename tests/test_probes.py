"""Each probe equals a slow, obvious twin: one weight after the other, in plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from looked import CLOSE, alike

from meansquare.watching import probes
from meansquare.watching.sampled import nonfinite, picked, spacing


def seen_of(tensors, rate, eps):
    """Tensors as (weights before, after, gradient, v) for each weight."""
    lengths = np.array([len(rows) for rows in tensors])
    columns = np.array([row for rows in tensors for row in rows], dtype=np.float64).T
    before, after, gradient, v = columns
    root = np.sqrt(v)
    starts = np.cumsum(lengths) - lengths
    return probes.Seen(starts, lengths, before, after, gradient, rate, root, root + eps, eps)


def slow_quantiles(rows, rate, eps):
    apart = -(-len(rows) // probes.RANKED)
    rates = sorted(rate / (math.sqrt(v) + eps) for *_, v in rows[::apart])
    last = len(rates) - 1
    return [rates[last - round((1 - q) * last)] for q in probes.QUANTILES]


def slow_rms(values):
    return math.sqrt(math.fsum(x * x for x in values) / len(values))


def share(holds):
    return sum(holds) / len(holds)


def slow(rows, rate, eps):
    """Every probe of one tensor, as its docstring says."""
    update, weights = slow_rms([q - p for p, q, _, _ in rows]), slow_rms([p for p, *_ in rows])
    return {
        "rate": slow_quantiles(rows, rate, eps),
        "eps_rules": share([eps > math.sqrt(v) for *_, v in rows]),
        "gradient": slow_rms([g for _, _, g, _ in rows]),
        "update": update,
        "relative_update": update / weights if weights else None,
        "precursor": slow_rms([g / max(math.sqrt(v), eps, probes.LEAST) for _, _, g, v in rows]),
        "dead": share([g == 0 and v == 0 for _, _, g, v in rows]),
        "stale": share([abs(g) * 1000 < math.sqrt(v) for _, _, g, v in rows]),
    }


NUMBER = st.one_of(st.just(0.0), st.floats(-1e3, 1e3), st.floats(-1e-6, 1e-6))
WEIGHT = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER.map(abs))
TENSORS = st.lists(st.lists(WEIGHT, min_size=1, max_size=30), min_size=1, max_size=4)


@settings(derandomize=True, deadline=None)
@given(TENSORS, st.floats(1e-6, 10.0), st.sampled_from([1e-38, 1e-8, 1e-3, 1.0]))
def test_every_probe_equals_its_twin(tensors, rate, eps):
    seen = seen_of(tensors, rate, eps)
    for i, rows in enumerate(tensors):
        expected = slow(rows, rate, eps)
        for name, probe in probes.PROBES.items():
            assert alike(probe(seen)[i], expected[name], CLOSE), name


def test_a_gradient_a_thousand_times_smaller_than_its_root_is_stale():
    seen = seen_of([[(1.0, 1.0, 1.0, 999.5**2), (1.0, 1.0, 1.0, 1000.5**2)]], 0.1, 1e-8)
    assert probes.stale(seen) == [0.5]


def test_quantiles_of_a_large_tensor_are_those_of_some_of_its_weights():
    rows = [(1.0, 1.0, 1.0, float(v)) for v in np.random.default_rng(0).random(5000)]
    found = probes.rate_quantiles(seen_of([rows], 0.1, 1e-8))
    assert found[0] == pytest.approx(slow_quantiles(rows, 0.1, 1e-8), rel=CLOSE)
    whole = np.quantile([0.1 / (math.sqrt(v) + 1e-8) for *_, v in rows], probes.QUANTILES)
    # 500 of 5000: the share below a quantile has a standard deviation of 2 %, and this one of
    # the median is 3 % of its value.
    assert found[0][2] == pytest.approx(whole[2], rel=0.1)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300))
def test_as_many_weights_are_picked_as_may_be_and_all_of_a_small_tensor(count, most):
    t = torch.arange(float(count))
    own = picked(t, most)
    assert own.numel() <= most or count <= most
    assert torch.equal(own, t) if count <= most else own.numel() > 0
    assert picked(t, None).numel() == count


def test_no_column_of_a_matrix_is_left_out():
    matrix = torch.arange(64.0).repeat(1024, 1)
    assert {*picked(matrix, 1024).tolist()} == {*range(64)}
    assert spacing(64 * 1024, 1024) == 65


@pytest.mark.parametrize(
    "t",
    [
        torch.tensor([1.0, math.nan, math.inf, -math.inf]),
        torch.tensor([complex(1, math.nan), 1j, complex(math.inf, math.inf)]),
        torch.tensor([3e38, 3e38, math.nan]),
        torch.tensor([[0.0, math.inf], [0.0, 1.0]]).to_sparse(),
        torch.full((2, 2), 6e4, dtype=torch.float16),
        torch.zeros(0),
    ],
)
def test_what_is_not_finite_is_counted_in_all_of_a_tensor(t):
    dense = t.to_dense() if t.layout != torch.strided else t
    real = torch.view_as_real(dense) if dense.is_complex() else dense
    expected = sum(not math.isfinite(x) for x in real.flatten().tolist())
    assert nonfinite([t, torch.ones(2), t]) == [expected, 0, expected]
    assert nonfinite([]) == []
