"""Servers to try the laboratory on, and to begin your own from: one that keeps its word, one not.

They import nothing of kvlab. Run them with `python -m kvlab.examples.server`, or copy them.
"""
