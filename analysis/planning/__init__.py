"""Power of a design by simulation, before a trial."""
