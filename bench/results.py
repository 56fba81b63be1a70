"""What bench/compare has measured so far, as its JSON file holds it: rows, geometric means, and whether all rows are there.

  machine, policy, threads, rounds, seconds, engines   what the rows hold for
  models     a row for each model and batch: name, batch, engines (median_ms and error, or failure), best_peer, speedup_over_best_peer
  geomean    of the speed-ups of all rows; geomeans: by batch
  complete   false while rows are missing, as after Ctrl-C
"""

import json
import math
import os

SAME = ("policy", "threads", "rounds", "seconds", "engines", "machine")  # what rows of one file share


def begin(**about):
    return about | {"models": [], "geomean": None, "geomeans": {}, "complete": False}


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def batches(models):
    return sorted({model["batch"] for model in models})


def speedups(models, batch=None):
    """Of one batch, or of all; models that could not be compared have none."""
    return [model["speedup_over_best_peer"] for model in models if model["speedup_over_best_peer"] and batch in (None, model["batch"])]


def add(result, row, names):
    """Puts a row in its place: batch after batch, models in the order of `names`. One of the same model and batch goes."""
    key = lambda model: (model["batch"], names.index(model["name"]))  # noqa: E731
    result["models"] = sorted([model for model in result["models"] if key(model) != key(row)] + [row], key=key)
    result["geomean"] = geomean(speedups(result["models"]))
    result["geomeans"] = {str(batch): geomean(speedups(result["models"], batch)) for batch in batches(result["models"])}


def lost(row):
    """Whether the row lacks Tilewright's figure although it was asked for."""
    return "failure" in row or "failure" in row["engines"].get("tilewright", {})


def has(result, name, batch):
    """Whether the row is there and not lost."""
    return any((row["name"], row["batch"]) == (name, batch) and not lost(row) for row in result["models"])


def resumed(path, fresh):
    """The result that the file holds, to be gone on with; `fresh` where there is none. ValueError when it was measured otherwise."""
    if not os.path.exists(path):
        return fresh
    with open(path, encoding="utf-8") as file:
        earlier = json.load(file)
    dateless = lambda value: {k: v for k, v in value.items() if k != "date"} if isinstance(value, dict) else value  # noqa: E731
    for key in SAME:
        if dateless(earlier.get(key)) != dateless(fresh[key]):
            raise ValueError(f"{path} was measured with another '{key}': {earlier.get(key)}, now {fresh[key]}; measure anew, without --resume")
    return earlier | {"complete": False}


def write(path, content):
    """The whole content or none: what is there stays until all is written."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(content)
    os.replace(path + ".part", path)


def write_json(path, result):
    write(path, json.dumps(result, indent=1) + "\n")
