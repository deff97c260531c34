"""Helpers that know nothing of the domain: seeds, options, errors, hashes, files, devices."""
