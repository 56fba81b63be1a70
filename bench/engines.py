"""The engines of bench/compare, each set up as its own documentation recommends for latency on a CPU.

An engine is made from a Case and a number of threads; then `outputs()` gives its results as numpy arrays, `median_ms(seconds)` measures
for a while, after a warm-up, and `note` says how it was set up where that was a choice.
"""

import json
import logging
import os
import subprocess
import tempfile
import time

import numpy
import torch

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

    def median_ms(self, seconds):
        run_for(self.call, WARM_UP, least=1)
        return float(numpy.median(run_for(self.call, seconds)))


class Tilewright:
    """Measured by `tilewright bench`: the artifact as it is shipped, loaded by the program that ships with it."""

    name = "tilewright"
    note = ""

    def __init__(self, case, threads):
        self.artifact, self.threads, self.names = case.stem + ".so", threads, case.output_names
        if not os.path.exists(TILEWRIGHT):
            raise RuntimeError(f"there is no {TILEWRIGHT}; build it or set TILEWRIGHT")
        if not os.path.exists(self.artifact) or os.path.getmtime(self.artifact) < max(os.path.getmtime(case.path), os.path.getmtime(TILEWRIGHT)):
            self.tilewright("compile", "-q", case.path, "-o", self.artifact, "--policy", "fp32")
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

    def __init__(self, case, threads):
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

    def __init__(self, case, threads):
        import openvino

        core = openvino.Core()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        self.compiled = core.compile_model(core.read_model(case.path), "CPU", options)
        self.request, self.names = self.compiled.create_infer_request(), case.output_names
        self.call = lambda: self.request.infer(case.inputs, share_inputs=True, share_outputs=True)

    def outputs(self):
        self.call()
        return [self.request.get_tensor(name).data.copy() for name in self.names]


class Torch(InProcess):
    """PyTorch as it is, in the memory layout that is faster: rows of channels, or channels of rows."""

    name = "torch"

    def __init__(self, case, threads):
        torch.set_num_threads(threads)
        layouts = [torch.contiguous_format]
        if any(isinstance(part, torch.nn.Conv2d) for part in case.module.modules()):
            layouts.append(torch.channels_last)
        tried = []
        for layout in layouts:
            module, inputs = self.laid_out(case, layout)
            call = self.prepare(module, inputs)
            run_for(call, WARM_UP, least=2)
            tried.append((min(run_for(call, WARM_UP)), layout))
        best = min(tried, key=lambda entry: entry[0])[1]
        self.call = call if best == layouts[-1] else self.prepare(*self.laid_out(case, best))
        self.note = "channels_last" if best == torch.channels_last else ""

    @staticmethod
    def laid_out(case, layout):
        return case.module.to(memory_format=layout), [tensor.to(memory_format=layout) if tensor.dim() == 4 else tensor for tensor in case.tensors]

    def prepare(self, module, inputs):
        def call():
            with torch.inference_mode():
                return module(*inputs)

        return call

    def outputs(self):
        results = self.call()
        return [result.contiguous().numpy().copy() for result in (results if isinstance(results, tuple) else (results,))]


class TorchCompile(Torch):
    """torch.compile with frozen weights, as PyTorch's notes on CPU inference have it; `max-autotune`, or the default mode where that fails."""

    name = "torch.compile"

    def __init__(self, case, threads):
        import torch._inductor.async_compile
        import torch._inductor.config

        settings = torch._inductor.config
        settings.freezing = True
        settings.autotune_num_choices_displayed, settings.max_autotune_report_choices_stats = 0, False
        for name in ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.mode = ""
        super().__init__(case, threads)
        torch._inductor.async_compile.shutdown_compile_workers()  # or they would share the cores with what is measured
        self.note = ", ".join(filter(None, [self.note, self.mode]))

    def prepare(self, module, inputs):
        try:
            return self.compiled(module, inputs, "max-autotune")
        except Exception as problem:
            self.mode = f"default mode, since max-autotune failed: {one_line(problem)}"
            return self.compiled(module, inputs, "default")

    def compiled(self, module, inputs, mode):
        torch._dynamo.reset()
        call = super().prepare(torch.compile(module, mode=mode), inputs)
        call()
        return call


def one_line(problem):
    """The first line of an error that says something, cut to a table's width, without the folders of this machine."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
    return lines[0].replace(ROOT + os.sep, "").replace(os.path.expanduser("~"), "~")[:300]


ENGINES = [Tilewright, OnnxRuntime, OpenVino, Torch, TorchCompile]
