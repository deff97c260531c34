"""What a protocol would do before it runs: units, power, hours, rehearsal."""
