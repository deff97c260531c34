"""Readers of datasets, one file each; :mod:`atat_ray.data.interface` says what a reader has."""
