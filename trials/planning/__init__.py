"""Describe a protocol before it runs: units, smallest p, power, hours, rehearsal.

:func:`~trials.planning.plan.describe_plan` gives the lines of ``atat plan``.
:func:`~trials.planning.rehearsal.rehearse_settings` runs one step of every stage, and
:func:`~trials.planning.hours.describe_probe` estimates hours from such steps.

>>> from trials.allocation import strata
>>> from trials.config.load import read_protocol
>>> from trials.planning.plan import describe_trial
>>> protocol = read_protocol("orl-rct")
>>> lines = describe_trial(protocol, strata(protocol))
>>> print(lines[2])
24 units in 2 blocks; arms are drawn at random within each
>>> print(next(line for line in lines if "exact p" in line).strip())
smallest two-sided exact p: 0.00041 (4,900 allocations)
"""
