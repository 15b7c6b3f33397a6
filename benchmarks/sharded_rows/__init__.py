"""What ``benchmarks/sharded.py`` measures, a subject a file: networks that ``fully_shard`` divides among processes."""
