"""Settings of trials and sweeps: what a YAML file may contain, and how it is read.

:class:`~trials.config.protocol.Protocol` defines the keys of a trial, and
:class:`~trials.config.sweep.SweepSettings` those of a sweep.
:func:`~trials.config.load.read_protocol` and :func:`~trials.config.load.read_sweep` read a file, or
a shipped one by its name, and report a mistake in one line with the line number.

>>> from trials.config.load import read_protocol
>>> protocol = read_protocol("orl-rct")
>>> list(protocol.arms), protocol.outcome
(['control', 'treatment', 'placebo'], 'standard/att_acc_1')
>>> read_protocol("orl-rtc")
Traceback (most recent call last):
    ...
ValueError: unknown protocol 'orl-rtc' (did you mean 'orl-rct'?); known: celeba-rct, \
claim-doses, facescrub-benchmark, facescrub-rct, orl-aa, orl-defenses, orl-rct; or give a .yaml file
"""
