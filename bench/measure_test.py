import contextlib
import io
import os
import signal
import time
import types
import unittest

import measure
import processes


class Engine:
    note = ""

    def __init__(self, case, threads, policy):
        self.calls = 0

    def outputs(self):
        return 1e-7

    def median_ms(self, _seconds):
        self.calls += 1
        return self.figures[min(self.calls, len(self.figures) - 1)]


def engine(name_, **changed):
    return type(name_, (Engine,), {"name": name_, "figures": [0, 4.0, 2.0, 3.0]} | changed)


def raises(*_):
    raise RuntimeError("\n  no such operator\nmore")


class FailsLater(Engine):
    name = "later"

    def median_ms(self, _seconds):
        self.calls += 1
        return 1.0 if self.calls < 3 else raises()


CASE = types.SimpleNamespace(name="net", batch=8, error=lambda outputs: outputs)
CHOICE = types.SimpleNamespace(policy="fp32", threads=1, rounds=3, seconds=0)


def measured(*kinds):
    report, said = {}, io.StringIO()
    with contextlib.redirect_stderr(said):
        ready = measure.prepare(CASE, kinds, CHOICE, lambda _: None, report)
        times = measure.take_turns(CASE, ready, CHOICE, lambda _: None, report)
    return measure.row("net", 8, report, times), said.getvalue()


# Work for processes of their own.
def crashes_in_openvino(tell, _name, _batch, _choice, crashed):
    if "openvino" not in crashed:
        tell("openvino")
        os.kill(os.getpid(), signal.SIGSEGV)
    tell(None)
    return {"crashed": crashed}


def crashes_before(_tell, *_):
    os._exit(3)


def leaves_a_child(_tell):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return os.getpgrp()


class Measure(unittest.TestCase):
    def setUp(self):
        self.pause, measure.PAUSE = measure.PAUSE, 0

    def tearDown(self):
        measure.PAUSE = self.pause

    def test_the_speed_up_is_the_median_over_rounds_of_the_fastest_peer(self):
        row, _ = measured(engine("tilewright", figures=[0, 0, 1.0, 1.0, 2.0]), engine("slow", figures=[0, 0, 9.0]), engine("fast", figures=[0, 0, 3.0, 4.0, 4.0]))
        self.assertEqual(row["best_peer"], "fast")
        self.assertEqual(row["engines"]["fast"]["median_ms"], 4.0)
        self.assertEqual(row["speedup_over_best_peer"], 3.0)

    def test_an_engine_that_cannot_run_is_named_with_its_reason(self):
        row, said = measured(engine("tilewright"), engine("openvino", outputs=raises), engine("torch"))
        self.assertEqual(row["engines"]["openvino"], {"failure": "no such operator"})
        self.assertEqual(row["best_peer"], "torch")
        self.assertEqual(said, "openvino cannot run net, batch 8: no such operator\n")

    def test_an_engine_that_fails_while_it_is_measured_is_dropped(self):
        row, said = measured(engine("tilewright"), FailsLater, engine("torch"))
        self.assertEqual(row["engines"]["later"], {"failure": "no such operator"})
        self.assertEqual(row["best_peer"], "torch")
        self.assertIn("later cannot run net, batch 8", said)

    def test_wrong_results_are_a_failure(self):
        row, _ = measured(engine("tilewright", outputs=lambda self: 2e-3), engine("torch", outputs=lambda self: float("nan")))
        self.assertEqual(row["engines"]["tilewright"]["failure"], "wrong results: relative error 0.002, allowed 0.001")
        self.assertIn("failure", row["engines"]["torch"])
        self.assertIsNone(row["speedup_over_best_peer"])


class Apart(unittest.TestCase):
    def test_an_engine_that_crashes_is_left_out_of_a_second_try(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            row = measure.measure_apart("net", 8, None, work=crashes_in_openvino)
        self.assertEqual(row, {"crashed": {"openvino": "its process was ended by SIGSEGV"}})
        self.assertIn("openvino cannot run net, batch 8", said.getvalue())

    def test_a_crash_of_no_engine_fails_the_row(self):
        with contextlib.redirect_stderr(io.StringIO()):
            row = measure.measure_apart("net", 8, None, work=crashes_before)
        self.assertEqual((row["batch"], row["failure"], row["engines"]), (8, "its process ended with 3", {}))

    def test_an_exception_fails_the_row_with_its_text(self):
        with contextlib.redirect_stderr(io.StringIO()):
            row = measure.measure_apart("net", 1, None, work=raises)
        self.assertEqual(row["failure"], "no such operator")

    def test_what_the_work_started_ends_with_it(self):
        group = processes.run_apart(leaves_a_child)
        deadline = time.monotonic() + 10
        with self.assertRaises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.01)


if __name__ == "__main__":
    unittest.main()
