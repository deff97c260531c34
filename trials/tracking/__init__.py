"""Record of campaigns and sweeps in MLflow: connect to it, write it, correct it after a move.

:class:`~trials.tracking.record.MlflowRecord` registers settings and allocation before the first
unit and writes each unit once. :func:`~trials.tracking.unit_tags.unit_tags` builds the tags of a
unit's run. :mod:`analysis.record` reads the record.
"""
