"""Processes: those of one run that agree before it begins, and those of a sweep."""
