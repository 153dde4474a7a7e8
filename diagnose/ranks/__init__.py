"""Many recordings of one job: collectives joined across ranks, waiting told from moving."""
