"""Exit codes of ``atat``."""

DONE = 0
INCOMPLETE = 1  # a unit or a check failed, or units are left
UNUSABLE = 2  # invalid input, or something in the user's environment must be changed first
INTERRUPTED = 130  # by a signal or `atat stop`; the same command resumes
