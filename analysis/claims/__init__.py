"""Verdicts on claims that a protocol states beforehand: estimate, confidence set, rule.

A protocol may have a key ``claims``: for each the sentence, what the paper found, the estimand, the
direction and the margin. :func:`judge` computes a verdict from the unit table and from nothing
else, so that anybody can recompute it from the table as CSV.

==================================  ==============================================================
module                              what it does
==================================  ==============================================================
``analysis.claims.judgement``       the verdict, and the sentence that states it
``analysis.claims.rule``            the rule: supported, contradicted, undecided
``analysis.claims.estimands``       the kinds of estimand, each with its confidence set
``analysis.claims.cell_moments``    means of arms over blocks with their joint covariance
``analysis.claims.matched_curves``  leakage of two curves of doses at equal loss of clean accuracy
==================================  ==============================================================
"""

from analysis.claims.judgement import Judgement, judge

__all__ = ["Judgement", "judge"]
