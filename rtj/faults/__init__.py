"""Kills a small training again and again, and compares it with one left alone."""
