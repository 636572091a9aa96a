"""Exit codes that several commands share."""

#: Stopped by Ctrl-C: 128 and the number of the signal, as shells count.
INTERRUPTED = 130
