"""Processes: those of one run, which agree before it begins, and those of a sweep."""
