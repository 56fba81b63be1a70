"""The engines of bench/compare, each set up as its own documentation recommends for latency on a CPU.

An engine is made from a Case, a number of threads and a policy, one of its `policies`; then `outputs()` gives its results as numpy arrays, `median_ms(seconds)` measures
for a while, after a warm-up, and `note` says how it was set up where that was a choice.
"""

import copy
import json
import logging
import os
import subprocess
import tempfile
import time

import numpy
import torch
from policies import POLICIES
from processes import one_line

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TILEWRIGHT = os.environ.get("TILEWRIGHT", os.path.join(ROOT, "build", "bin", "tilewright"))
WARM_UP = 0.2  # seconds
LEAST_RUNS = 3


def run_for(call, seconds, least=LEAST_RUNS):
    """Times of single runs in milliseconds."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


class InProcess:
    """An engine that `call()` runs once, in this process."""

    note = ""
    policies = tuple(POLICIES)

    def median_ms(self, seconds):
        run_for(self.call, WARM_UP, least=1)
        return float(numpy.median(run_for(self.call, seconds)))


class Tilewright:
    """Measured by `tilewright bench`: the artifact as it is shipped, loaded by the program that ships with it."""

    name = "tilewright"
    note = ""
    policies = tuple(POLICIES)

    def __init__(self, case, threads, policy):
        self.artifact, self.threads, self.names = case.stem + ("" if policy == "fp32" else "." + policy) + ".so", threads, case.output_names
        if not os.path.exists(TILEWRIGHT):
            raise RuntimeError(f"there is no {TILEWRIGHT}; build it or set TILEWRIGHT")
        if not os.path.exists(self.artifact) or os.path.getmtime(self.artifact) < max(os.path.getmtime(case.path), os.path.getmtime(TILEWRIGHT)):
            self.tilewright("compile", "-q", case.path, "-o", self.artifact, "--policy", policy)
        self.files = []
        for name, value in case.inputs.items():
            file = f"{case.stem}.{name}.npy"
            numpy.save(file, value)
            self.files += ["--input", f"{name}={file}"]

    @staticmethod
    def tilewright(*arguments):
        done = subprocess.run([TILEWRIGHT, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"tilewright {arguments[0]} ended with {done.returncode}")
        return done.stdout

    def outputs(self):
        with tempfile.TemporaryDirectory() as folder:
            self.tilewright("run", self.artifact, "--threads", self.threads, "--output-dir", folder, *self.files)
            return [numpy.load(os.path.join(folder, name + ".npy")) for name in self.names]

    def median_ms(self, seconds):
        options = ["--threads", self.threads, "--warm-up", WARM_UP, "--duration", seconds, "--iterations", LEAST_RUNS, "--json"]
        return json.loads(self.tilewright("bench", self.artifact, *options, *self.files))["latency_ms"]["median"]


class OnnxRuntime(InProcess):
    name = "onnxruntime"
    policies = ("fp32", "tf32")  # its engine for CPUs computes what the file says

    def __init__(self, case, threads, _policy):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(case.path, options, providers=["CPUExecutionProvider"])
        self.call = lambda: session.run(case.output_names, case.inputs)
        self.outputs = self.call


class OpenVino(InProcess):
    name = "openvino"
    hints = {"fp32": "f32", "tf32": "f32", "bf16": "bf16", "fp16": "f16"}

    def __init__(self, case, threads, policy):
        import openvino

        core = openvino.Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.hints[policy], "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        self.compiled = core.compile_model(core.read_model(case.path), "CPU", options)
        used = self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.note = "" if used == self.hints[policy] else f"computes in {used} here"
        self.request, self.names = self.compiled.create_infer_request(), case.output_names
        self.call = lambda: self.request.infer(case.inputs, share_inputs=True, share_outputs=True)

    def outputs(self):
        self.call()
        return [self.request.get_tensor(name).data.copy() for name in self.names]


class Torch(InProcess):
    """PyTorch as it is, in the way that is fastest: rows of channels, or channels of rows; for 16 bits under autocast, or converted as a whole."""

    name = "torch"
    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def __init__(self, case, threads, policy):
        torch.set_num_threads(threads)
        self.half = self.halves.get(policy)
        layouts = [torch.contiguous_format]
        if any(isinstance(part, torch.nn.Conv2d) for part in case.module.modules()):
            layouts.append(torch.channels_last)
        tried, failures = [], []
        for layout in layouts:
            for converted in (False, True) if self.half else (False,):
                try:
                    call = self.prepare(*self.laid_out(case, layout, converted), converted)
                    run_for(call, WARM_UP, least=2)
                    tried.append((min(run_for(call, WARM_UP)), layout, converted))
                except Exception as problem:
                    failures.append(problem)
        if not tried:
            raise failures[0]
        _, layout, converted = min(tried, key=lambda entry: entry[0])
        self.call = self.prepare(*self.laid_out(case, layout, converted), converted)
        way = "" if not self.half else "converted" if converted else "autocast"
        self.note = ", ".join(filter(None, ["channels_last" if layout == torch.channels_last else "", way]))

    def laid_out(self, case, layout, converted):
        """Module and inputs; a changed module is a copy, since other engines of this process run the case's own."""
        module, tensors = case.module, case.tensors
        if layout != torch.contiguous_format or converted:
            module = copy.deepcopy(module).to(memory_format=layout, dtype=self.half if converted else None)
        if converted:
            tensors = [tensor.to(self.half) if tensor.is_floating_point() else tensor for tensor in tensors]
        return module, [tensor.to(memory_format=layout) if tensor.dim() == 4 else tensor for tensor in tensors]

    def prepare(self, module, inputs, converted):
        autocast = torch.autocast("cpu", dtype=self.half or torch.bfloat16, enabled=self.half is not None and not converted)

        def call():
            with torch.inference_mode(), autocast:
                return module(*inputs)

        return call

    def outputs(self):
        results = self.call()
        return [result.contiguous().float().numpy().copy() for result in (results if isinstance(results, tuple) else (results,))]


class TorchCompile(Torch):
    """torch.compile with frozen weights, as PyTorch's notes on CPU inference have it; `max-autotune`, or the default mode where that fails."""

    name = "torch.compile"

    def __init__(self, case, threads, policy):
        import torch._inductor.async_compile
        import torch._inductor.config

        settings = torch._inductor.config
        settings.freezing = True
        settings.autotune_num_choices_displayed, settings.max_autotune_report_choices_stats = 0, False
        for name in ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.mode = ""
        super().__init__(case, threads, policy)
        torch._inductor.async_compile.shutdown_compile_workers()  # or they would share the cores with what is measured
        self.note = ", ".join(filter(None, [self.note, self.mode]))

    def prepare(self, module, inputs, converted):
        try:
            return self.compiled(module, inputs, "max-autotune", converted)
        except Exception as problem:
            self.mode = f"default mode, since max-autotune failed: {one_line(problem)}"
            return self.compiled(module, inputs, "default", converted)

    def compiled(self, module, inputs, mode, converted):
        torch._dynamo.reset()
        call = super().prepare(torch.compile(module, mode=mode), inputs, converted)
        call()
        return call


ENGINES = [Tilewright, OnnxRuntime, OpenVino, Torch, TorchCompile]
