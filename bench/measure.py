"""One row of bench/compare: a model with a batch size, all engines in turn. Importing this needs no peers; `measure` does.

An engine that cannot run, is wrong, raises or crashes is reported by name with its reason, and the others go on without it.
"""

import os
import statistics
import sys
import time

import processes
from policies import POLICIES
from processes import one_line

FOLDER = os.path.join(processes.ROOT, "build", "bench-models")
PAUSE = 0.2  # seconds after each engine, in which the threads it keeps waiting go to sleep


def drop(report, engine, case, problem):
    """Writes down that the engine failed; its figures, if any, go."""
    report[engine] = {"failure": one_line(problem)}
    print(f"{engine} cannot run {case.name}, batch {case.batch}: {one_line(problem)}", file=sys.stderr, flush=True)


def prepare(case, kinds, choice, tell, report):
    """Engines that give right results."""
    ready, allowed = [], POLICIES[choice.policy].largest_error
    for kind in kinds:
        tell(kind.name)
        try:
            engine = kind(case, choice.threads, choice.policy)
            error = case.error(engine.outputs())
            if not error <= allowed:
                raise RuntimeError(f"wrong results: relative error {error:.3g}, allowed {allowed:g}")
            engine.median_ms(0)
        except Exception as problem:
            drop(report, kind.name, case, problem)
            continue
        ready.append(engine)
        report[kind.name] = {"median_ms": None, "error": error} | ({"note": engine.note} if engine.note else {})
    return ready


def take_turns(case, engines, choice, tell, report):
    """Medians of each round by engine, in milliseconds; each round begins with another engine."""
    times = {engine.name: [] for engine in engines}
    for number in range(choice.rounds):
        turn = number % max(len(engines), 1)
        for engine in engines[turn:] + engines[:turn]:
            if engine.name not in times:
                continue
            tell(engine.name)
            try:
                times[engine.name].append(engine.median_ms(choice.seconds))
            except Exception as problem:
                drop(report, engine.name, case, problem)
                del times[engine.name]
            time.sleep(PAUSE)
    tell(None)
    return times


def row(name, batch, report, times):
    """The figures of one model and batch: medians, and the speed-up over the peer that is fastest, the median over rounds."""
    for engine, taken in times.items():
        report[engine] |= {"median_ms": statistics.median(taken), "rounds_ms": taken}
    peers = [engine for engine in times if engine != "tilewright"]
    result = {"name": name, "batch": batch, "engines": report, "best_peer": None, "speedup_over_best_peer": None}
    if peers:
        result["best_peer"] = min(peers, key=lambda engine: report[engine]["median_ms"])
    if peers and "tilewright" in times:
        rounds = zip(times["tilewright"], *[times[peer] for peer in peers], strict=True)
        result["speedup_over_best_peer"] = statistics.median(min(others) / own for own, *others in rounds)
    return result


def measure(tell, name, batch, choice, crashed):
    """A row; `crashed` has the reasons of engines that are not to be tried again, by name."""
    import torch
    from engines import ENGINES
    from machine import Others
    from models import MODELS, Case

    torch.set_num_threads(choice.threads)
    case = Case(next(model for model in MODELS if model.name == name), batch, FOLDER)
    report = {engine: {"failure": why} for engine, why in crashed.items()}
    ready = prepare(case, [kind for kind in ENGINES if kind.name in choice.engines and kind.name not in crashed], choice, tell, report)
    others = Others()
    times = take_turns(case, ready, choice, tell, report)
    return row(name, batch, report, times) | {"others": round(others.cores(), 2)}


def measure_apart(name, batch, choice, work=measure):
    """A row, measured in a process of its own: what an engine keeps or breaks ends with it. A crash takes the measurements along; they are taken again."""
    crashed = {}
    while True:
        try:
            return processes.run_apart(work, name, batch, choice, crashed)
        except processes.Ended as problem:
            why, engine = str(problem), problem.at
        except processes.Failed as problem:
            why, engine = str(problem), None
        print(f"{engine or 'bench/compare'} cannot run {name}, batch {batch}: {why}", file=sys.stderr, flush=True)
        if engine is None:
            return row(name, batch, {}, {}) | {"failure": why}
        crashed[engine] = why
