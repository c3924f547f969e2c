"""Long campaigns on real processes: what must hold, how often it was tried, and how often it failed.

`campaign` is what they share; every other module is one of them. Nothing of kvlab knows of this.
"""
