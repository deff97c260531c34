"""Planning of a trial before it runs: power, size and interval width of a design, by simulation.

:func:`simulate` draws the outcomes of many campaigns and analyses each with the estimators of the
report. It returns a :class:`Power`: the share of campaigns that would show an effect, the same
share without an effect, the coverage and width of the interval, and the smallest p that the design
can give.

>>> from analysis.planning import simulate
>>> plan = simulate(blocks=2, per_arm=4, control=0.9, treatment=0.8, precision=60, trials=100)
>>> print(f"{plan.units} units, power {plan.power:.0%}, interval {plan.width:.0f} pp wide")
16 units, power 95%, interval 10 pp wide
"""

from analysis.planning.power import Power, simulate

__all__ = ["Power", "simulate"]
