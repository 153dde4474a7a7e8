"""Rows of the results that are no report of one recording; renderers read them."""
