"""Sweeps over the options of a defense: folder, proposals, early stopping, run."""
