"""Helpers without knowledge of the domain; every other package may import them.

Seeds (``seeding``), registries (``registry``), dataclasses of options and their hashes
(``option_fields``, ``hashing``), files that are complete or absent (``atomic_files``,
``stage_files``), errors with suggestions (``errors``), devices and precision (``device``,
``precision``). Import the modules; this package exports nothing.
"""
