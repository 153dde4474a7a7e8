"""Hardware counters joined to the kernels of a recording."""
