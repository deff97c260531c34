"""Regression models of leakage: Beta, counts, dose and response, mechanism, matching."""
