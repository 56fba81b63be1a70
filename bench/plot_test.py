import re
import unittest
from xml.etree import ElementTree

import plot

NAMES = {"tilewright": "Tilewright", "onnxruntime": "ONNX <Runtime>"}


def model(name, batch, speedup):
    return {"name": name, "batch": batch, "engines": {"tilewright": {} if speedup else {"failure": "x"}}, "speedup_over_best_peer": speedup,
            "best_peer": "onnxruntime" if speedup else None}


def picture(*models):
    return plot.svg({"policy": "tf32", "threads": 2, "machine": {"cpu": "A & B", "cores": 4, "date": "2026-01-02"}, "models": list(models)}, NAMES)


def parts(svg, tag):
    return list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}" + tag))


def bars(svg, kind):
    return [float(part.get("width")) for part in parts(svg, "rect") if part.get("class") == kind]


def words(svg):
    return [part.text for part in parts(svg, "text")]


class Plot(unittest.TestCase):
    def test_bars_are_as_long_as_their_speed_ups(self):
        svg = picture(model("a", 1, 0.5), model("b", 1, 2.0))
        self.assertEqual(bars(svg, "faster"), [plot.WIDTH])
        self.assertEqual(bars(svg, "slower"), [plot.WIDTH / 4])
        self.assertEqual(bars(svg, "mean"), [plot.WIDTH / 2])

    def test_the_line_at_one_is_where_a_bar_of_one_ends(self):
        svg = picture(model("a", 1, 1.0))
        line = next(part for part in parts(svg, "line") if part.get("stroke-dasharray"))
        self.assertAlmostEqual(float(line.get("x1")), plot.LEFT + bars(svg, "faster")[0], places=1)

    def test_each_batch_is_a_group_with_its_mean(self):
        said = words(picture(model("a", 1, 2.0), model("b", 1, 8.0), model("a", 8, 3.0)))
        groups = [word for word in said if word.startswith("batch")]
        means = [said[i + 1] for i, word in enumerate(said) if word == "geometric mean"]
        self.assertEqual(groups, ["batch 1", "batch 8"])
        self.assertEqual(means, ["4.00", "3.00"])

    def test_a_model_without_a_speed_up_has_no_bar_and_says_why(self):
        svg = picture(model("a", 1, None))
        self.assertEqual(bars(svg, "faster") + bars(svg, "slower") + bars(svg, "mean"), [])
        self.assertIn("failed", words(svg))

    def test_names_are_escaped(self):
        said = words(picture(model("a", 1, 2.0)))
        self.assertIn("2.00  ONNX <Runtime>", said)
        self.assertTrue(any(word.startswith("A & B, 4 cores, 2026-01-02") for word in said))

    def test_the_title_names_policy_and_threads(self):
        self.assertIn("Speed-up over the best peer: policy tf32, 2 threads", words(picture()))

    def test_every_colour_has_a_dark_one(self):
        svg = picture(model("a", 1, 2.0), model("b", 1, 0.9), model("c", 8, None))
        dark = parts(svg, "style")[0].text
        for part in parts(svg, "rect") + parts(svg, "text") + parts(svg, "line"):
            self.assertIn(f".{part.get('class')} {{", dark)

    def test_everything_stands_inside(self):
        svg = picture(*[model(f"m{i}", 1 + 7 * (i % 2), 0.2 + i) for i in range(12)])
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        for part in parts(svg, "rect") + parts(svg, "text"):
            self.assertLessEqual(float(part.get("x")) + float(part.get("width") or 0), width)
            self.assertLessEqual(float(part.get("y")) + float(part.get("height") or 0), height)

    def test_ticks_are_few_and_reach_the_end(self):
        self.assertEqual(plot.ticks(1.25), [0, 0.25, 0.5, 0.75, 1, 1.25])
        self.assertEqual(plot.ticks(3.2), [0, 0.5, 1, 1.5, 2, 2.5, 3])
        self.assertEqual(plot.ticks(40), [0, 5, 10, 15, 20, 25, 30, 35, 40])


if __name__ == "__main__":
    unittest.main()
