"""Helpers without knowledge of the domain; every other package may import them.

Seeds (``seeding``), registries (``registry``), dataclasses of options and their hashes
(``option_fields``, ``hashing``), files that are complete or absent and prove their content
(``atomic_files``, ``stage_files``, ``json_files``), lines for the user (``messages``), errors with
suggestions (``errors``), devices and precision (``device``, ``precision``). Import the modules;
this package exports nothing.
"""
