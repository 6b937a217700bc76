"""Random runs of random optimizers: `make fuzz`, or PYTHONPATH=tests python -m fuzz --help."""
