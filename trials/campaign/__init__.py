"""A campaign and its folder: create, load, lock, commit, verify."""
