"""Conclude from the record of a campaign: estimates, intervals, exact p-values and a report.

``analysis`` reads MLflow only: it imports neither ray, torch, ``atat_ray`` nor ``trials``.
Import the module you need (``analysis.record.reader``, ``analysis.inference.difference``, ...);
this one loads nothing.
"""
