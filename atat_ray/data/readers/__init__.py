"""One reader a dataset layout."""
