"""The work of every item of a recording."""
