"""Corpus to memory bank: Ray Data schedules, Parquet holds, Delta Lake commits. Knows no command line."""
