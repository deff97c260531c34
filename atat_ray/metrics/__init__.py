"""Metrics of target models and of their reconstructions."""
