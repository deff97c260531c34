"""One unit of a trial: train a target model, invert it, measure it. Needs torch, not Ray."""

__version__ = "0.1.0"
