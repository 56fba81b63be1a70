import os
import tempfile
import unittest

import report
import results

NAMES = ["a", "b"]


def row(name, batch, speedup, **engines):
    return {"name": name, "batch": batch, "engines": {"tilewright": {"median_ms": 1.0, "error": 1e-6}} | engines, "best_peer": "torch" if speedup else None,
            "speedup_over_best_peer": speedup}


def about(**changed):
    machine = {"cpu": "c", "cores": 2, "features": ["avx2"], "date": "2026-01-02", "versions": {"torch": "2"}}
    return {"machine": machine, "policy": "tf32", "threads": 2, "rounds": 3, "seconds": 0.7, "engines": ["tilewright", "torch"]} | changed


def result(*rows):
    made = results.begin(**about())
    for each in rows:
        results.add(made, each, NAMES)
    return made


class Results(unittest.TestCase):
    def test_rows_stand_by_batch_then_by_model(self):
        made = result(row("b", 8, 1.0), row("b", 1, 1.0), row("a", 8, 1.0), row("a", 1, 1.0))
        self.assertEqual([(each["batch"], each["name"]) for each in made["models"]], [(1, "a"), (1, "b"), (8, "a"), (8, "b")])

    def test_means_are_by_batch_and_of_all(self):
        made = result(row("a", 1, 2.0), row("b", 1, 8.0), row("a", 8, 0.5), row("b", 8, None))
        self.assertAlmostEqual(made["geomeans"]["1"], 4.0)
        self.assertAlmostEqual(made["geomeans"]["8"], 0.5)
        self.assertAlmostEqual(made["geomean"], 2.0)

    def test_a_row_measured_again_replaces_the_old_one(self):
        made = result(row("a", 1, 2.0), row("a", 1, 3.0))
        self.assertEqual([each["speedup_over_best_peer"] for each in made["models"]], [3.0])

    def test_a_failure_of_tilewright_is_measured_again_and_one_of_a_peer_is_not(self):
        made = result(row("a", 1, None, tilewright={"failure": "x"}), row("b", 1, 2.0, torch={"failure": "x"}), row("b", 8, None) | {"failure": "x"})
        self.assertFalse(results.has(made, "a", 1))
        self.assertTrue(results.has(made, "b", 1))
        self.assertFalse(results.has(made, "b", 8))
        self.assertFalse(results.has(made, "a", 8))

    def test_a_stopped_run_is_resumed_on_another_day_only_as_it_was_begun(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bench.json")
            fresh = results.begin(**about())
            self.assertIs(results.resumed(path, fresh), fresh)
            results.write_json(path, result(row("a", 1, 2.0)) | {"complete": True})
            later = results.begin(**about(machine=about()["machine"] | {"date": "2026-01-03"}))
            resumed = results.resumed(path, later)
            self.assertTrue(results.has(resumed, "a", 1))
            self.assertFalse(resumed["complete"])
            with self.assertRaisesRegex(ValueError, "another 'threads': 2, now 4"):
                results.resumed(path, results.begin(**about(threads=4)))

    def test_the_page_names_the_batch_of_rows_failures_and_means(self):
        page = report.markdown(result(row("a", 1, 2.0, torch={"failure": "too large"}), row("a", 8, 3.0, torch={"median_ms": 3.0, "error": 2e-7, "note": "autocast"})))
        for line in ("| a | 1 | 1.00 (1.0e-06) | failed | PyTorch | 2.00 |", "| a | 8 | 1.00 (1.0e-06) | 3.00 (2.0e-07) | PyTorch | 3.00 |",
                     "- Geometric mean of the speed-ups, batch 8: 3.00 (1 of 1 rows).", "- Geometric mean of the speed-ups, all batches: 2.45 (2 of 2 rows).",
                     "- PyTorch, a, batch 1: failed: too large", "- PyTorch, a, batch 8: autocast"):
            self.assertIn(line, page.splitlines())

    def test_the_page_links_the_plot_from_where_it_lies(self):
        with tempfile.TemporaryDirectory() as folder:
            page, picture = os.path.join(folder, "docs", "page.md"), os.path.join(folder, "pictures", "page.svg")
            report.write_documents(result(row("a", 1, 2.0)), page, picture)
            self.assertTrue(os.path.exists(picture))
            with open(page, encoding="utf-8") as file:
                self.assertIn("](../pictures/page.svg)", file.read())


if __name__ == "__main__":
    unittest.main()
