"""What holds for every test."""

from __future__ import annotations

import signal

# A shell starts what is in the background with SIGINT ignored, and everything that a test starts would
# inherit that: Ctrl-C could not be tried.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
