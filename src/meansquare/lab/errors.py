"""The one exception the command line turns into a single line."""


class LabError(Exception):
    """Something the caller can put right: one line saying what, where and what to do."""
