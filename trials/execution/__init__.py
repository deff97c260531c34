"""Run pending units on Ray: resources, Tune, workers, failures, signals, progress."""
