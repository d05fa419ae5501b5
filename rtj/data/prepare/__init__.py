"""Looking at, checking and converting data sets: `python -m rtj.data.prepare`."""
