"""Run the pending units of a campaign or sweep on Ray.

:func:`~trials.execution.run.run` starts Ray, runs each unit as a
:class:`~trials.execution.tasks.UnitTask` of Ray Tune, and records it when it ends.
:func:`~trials.execution.classify.classify` says whose a failure is,
:class:`~trials.execution.failures.RetryPolicy` decides which lost units run again, and
:func:`~trials.execution.preflight.check_data` checks data and weights before a run.
"""
