"""The engines this suite is run against: how an orchestrator is made on a state that others share, and is struck.

Another engine is added here: a branch in `opened`, a kit in `conftest.py`, and nothing in the tests.
"""

import signal
import threading

from resilient.orchestrator import MemoryJournal, RecoveryOrchestrator, SqliteJournal

LEASE = 0.3


class Kit:
    """A state, and the orchestrators on it. `address` is what another process opens it by; None where it cannot."""

    def __init__(self, address, journal=None):
        self.address = address
        self._journal = journal
        self._made = []

    def orchestrator(self, lease=LEASE, meddle=None):
        """Another party, with nothing in common with the others but the state.

        `meddle` maps names of the journal's methods to what is called with their arguments just before each call.
        """
        journal = opened(self.address) if self._journal is None else self._journal
        if meddle is not None:
            journal = Meddled(journal, meddle)
        self._made.append(RecoveryOrchestrator(journal, lease=lease))
        return self._made[-1]

    def close(self):
        for one in self._made:
            one.close()


def memory_kit(directory):
    return Kit(None, MemoryJournal())


def sqlite_kit(directory):
    return Kit({"kind": "sqlite", "path": str(directory / "recovery.db")})


def opened(address):
    """The journal at an address."""
    assert address["kind"] == "sqlite"
    return SqliteJournal(address["path"])


class Struck:
    """A journal that signals its own process just before its n-th write, or as soon as that is committed.

    Renewals of leases are not counted, as they come when they come; and no signal falls into one, as a process that is
    stopped inside a transaction holds up all the others.
    """

    def __init__(self, journal, number=0, moment="never", signal_name="SIGKILL"):
        self._journal = journal
        self._number = number
        self._moment = moment
        self._signal_name = signal_name
        self._gate = threading.RLock()
        self._writes = 0

    def strike(self, signal_name):
        """Send this process a signal; to this thread, so that the call does not return before it has struck."""
        with self._gate:
            signal.pthread_kill(threading.get_ident(), getattr(signal, signal_name))

    def counted(self):
        """How many writes there were; asked in the middle of one, it waits until that has struck, or has not."""
        with self._gate:
            return self._writes

    def _write(self, write, *args):
        with self._gate:
            if self._writes + 1 == self._number and self._moment == "before":
                self.strike(self._signal_name)
            written = write(*args)
            if written is not False:
                self._writes += 1
                if self._writes == self._number and self._moment == "after":
                    self.strike(self._signal_name)
            return written

    def begin(self, *args):
        return self._write(self._journal.begin, *args)

    def take_over(self, *args):
        # None says that the lease has not ended, and nothing was written.
        lease = self._write(lambda: self._journal.take_over(*args) or False)
        return lease or None

    def append(self, *args):
        return self._write(self._journal.append, *args)

    def end(self, *args):
        return self._write(self._journal.end, *args)

    def signal(self, *args):
        return self._write(self._journal.signal, *args)

    def renew(self, lease):
        with self._gate:
            return self._journal.renew(lease)

    def __getattr__(self, name):
        return getattr(self._journal, name)


class Meddled:
    """A journal into which somebody else writes at the worst moment."""

    def __init__(self, journal, meddle):
        self._journal = journal
        self._meddle = meddle

    def __getattr__(self, name):
        method, meddle = getattr(self._journal, name), self._meddle.get(name)
        if meddle is None:
            return method

        def call(*args):
            meddle(*args)
            return method(*args)

        return call
