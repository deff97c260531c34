"""Comparisons of arms that the allocation justifies: estimates, tests, intervals."""
