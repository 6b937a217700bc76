"""A few random runs with fixed seeds; `make fuzz` goes on with others for as long as asked."""

import pytest
from fuzz.__main__ import trial_of

from meansquare.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.native is None, reason=f"C++ kernels {cpu.detail}")


@pytest.mark.parametrize("seed", range(24))
def test_a_random_run_equals_the_oracle_or_torch(seed):
    trial = trial_of(seed)
    trial.run()
    assert trial.elements > 0
