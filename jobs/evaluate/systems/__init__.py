"""What is measured: one file a system, behind jobs/evaluate/system.py.

Each file has `opened(name, folder, opening) -> list[System]`, and jobs/evaluate/opened.py holds the one dict of them.
A trained baseline's folder holds `system.json`, whose "system" is a name in that dict; a codec's folder needs none.
"""
