"""Random runs of random optimizers against the oracle, and against torch where torch is finite.

A trial makes parameters of any dtype and layout in groups of any settings, then steps them, and
does between steps what a user might: new numbers, a scheduler, other gradients, storage moved,
saved, loaded, copied, groups added, threads, errors. Exit code 1 and a seed on a difference.
"""

import argparse
import random
import sys
import time
import traceback
import warnings

from fuzz.against_oracle import OracleTrial
from fuzz.against_torch import TorchTrial

KINDS = (OracleTrial, OracleTrial, OracleTrial, TorchTrial)  # by the seed


def trial_of(seed: int) -> OracleTrial | TorchTrial:
    return KINDS[seed % len(KINDS)](seed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--trial", type=int, help="only the one with this seed")
    asked = parser.parse_args()
    first = random.SystemRandom().randrange(2**40) if asked.trial is None else asked.trial
    end = time.monotonic() + (asked.seconds if asked.trial is None else 0)
    trials = elements = 0
    while trials == 0 or time.monotonic() < end:
        trial = trial_of(first + trials)
        try:
            trial.run()
        except Exception as error:
            traceback.print_exception(error)
            print(f"fuzz: {error}\nfuzz: again with --trial {first + trials}")
            return 1
        trials, elements = trials + 1, elements + trial.elements
    print(f"fuzz: {trials:,} trials from {first}, {elements:,} elements compared, no difference")
    return 0


if __name__ == "__main__":
    warnings.simplefilter("error")
    sys.exit(main())
