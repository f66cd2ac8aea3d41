"""Break a real encode job in every way we know, and judge what the bank then holds: `python -m benchmarks.chaos`."""
