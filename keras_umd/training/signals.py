"""Signals that ask a training to save, and perhaps to leave."""

import os
import signal
import threading

LEAVING = {"SIGTERM": "leaves with the exit status 143", "SIGINT": "raises KeyboardInterrupt"}
SAVING = {"SIGUSR1": "goes on"}


class Signals:
    """Notes SIGTERM, SIGINT and SIGUSR1, so that `fit` can save at the end of a step.

    A second signal to leave, while the first one waits for the end of its step, leaves at once. The handlers of before
    are called when the first has been saved, and come back with `restore`.
    """

    def __init__(self):
        self.pending = None
        self._previous = {}

    def install(self):
        """Only in the main thread: in others Python has no handlers, and nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.restore()
        for name in (*LEAVING, *SAVING):
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            previous = signal.getsignal(number) if number is not None else None
            # None: a handler that Python did not install, and cannot restore; ignored ones stay ignored.
            if number is not None and previous not in (None, signal.SIG_IGN):
                self._previous[number] = previous
                signal.signal(number, self._note)

    def restore(self):
        """Give back the handlers of before."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._note:  # else the user's own, set meanwhile
                signal.signal(number, previous)
        self._previous.clear()
        self.pending = None

    def _note(self, number, frame):
        name = signal.Signals(number).name
        if self.pending in LEAVING and name in LEAVING:
            os._exit(128 + number)
        if self.pending not in LEAVING:
            self.pending = name
        print(f"\n{name}: the training saves at the end of this step and {(LEAVING | SAVING)[name]}.", flush=True)

    def act(self, name):
        """Do what a signal asks for, when everything is saved: call the user's own handler, then leave or go on."""
        self.pending = None
        number = getattr(signal, name)
        previous = self._previous.get(number)
        if name in LEAVING:
            self.restore()
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, None)
        if name == "SIGTERM":
            raise SystemExit(128 + number)
        if name == "SIGINT":
            raise KeyboardInterrupt
