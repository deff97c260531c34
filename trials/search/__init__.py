"""Sweeps over the options of a defense: folder, proposals, early stopping.

:class:`~trials.search.sweep.Sweep` is a sweep in its folder; its points are units.
:func:`~trials.search.proposals.propose` gives the next point of a search by Optuna, and
:class:`~trials.search.asha.Halving` stops trainings of low accuracy.

>>> from trials.config.load import read_sweep
>>> from trials.search.proposals import grid_point
>>> settings = read_sweep("orl-sweep")
>>> settings.total(), grid_point(settings.search, 0)
(12, {'weight': 0.5, 'epsilon': 0.0025})
"""
