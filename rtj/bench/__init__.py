"""Measurements, each beside a peer or a limit: `python -m rtj.bench`."""
