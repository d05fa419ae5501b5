"""What a config needs of a TPU slice: `python -m rtj.plan`."""
