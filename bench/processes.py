"""Work in a process of its own, which may crash or be stopped without loss of what was done before. Standard library only."""

import multiprocessing
import os
import signal
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
POLL = 1.0  # seconds between looks whether a silent process is still there
GRACE = 10.0  # seconds for a process to end after its result


class Stopped(KeyboardInterrupt):
    """A signal asked this program to end: Ctrl-C, or a time limit's."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Ended(Exception):
    """A process ended without a result. `at` is what it last told that it was at, None for nothing."""

    def __init__(self, why, at):
        super().__init__(why)
        self.at = at


class Failed(Exception):
    """The work raised an exception; this one has its text."""


def stop_by_exception():
    """Turns the first SIGINT, SIGTERM or SIGHUP into Stopped; later ones are ignored: `timeout` sends two. What nohup ignores stays so."""
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]

    def stop(number, _frame):
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in numbers:
        signal.signal(number, stop)


def one_line(problem):
    """The first line of an error that says something, cut to a table's width, without the folders of this machine."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
    return lines[0].replace(ROOT + os.sep, "").replace(os.path.expanduser("~"), "~")[:300]


def run_apart(work, *arguments):
    """What `work(tell, *arguments)` returns, computed in a new process; `tell(text)` says what it is at, for the message should it crash.

    The process and what it starts are a group, which ends with this call whatever happens. Raises Ended or Failed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        return _result(process, receiver)
    finally:
        _end(process)


def _work(sender, work, arguments):
    os.setpgid(0, 0)
    try:
        answer = "result", work(lambda text: sender.send(("at", text)), *arguments)
    except Exception as problem:
        answer = "failed", one_line(problem)
    sender.send(answer)


def _result(process, receiver):
    at = None
    while True:
        gone = process.exitcode is not None  # asked first: what it sent before it went is read below
        try:
            kind, value = receiver.recv() if receiver.poll(0 if gone else POLL) else ("silence", None)
        except (EOFError, OSError):
            kind, gone = "silence", True
            _await(process)
        if kind == "at":
            at = value
        elif kind == "failed":
            raise Failed(value)
        elif kind == "result":
            _await(process)
            return value
        elif gone:
            raise Ended(_how(process.exitcode), at)


def _await(process):
    """Waits for the process alone: join with a time limit waits for all that inherited its pipes."""
    end = time.monotonic() + GRACE
    while process.exitcode is None and time.monotonic() < end:
        time.sleep(0.01)


def _how(code):
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    return f"its process ended with {code}"


def _end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all have ended, or it has not got as far as a group of its own
        pass
    process.kill()
    process.join()
