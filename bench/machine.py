"""What the figures of bench/compare hold for: the processor, the versions, and how much of the machine others used."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import time

PACKAGES = ("onnxruntime", "openvino", "torch", "torchvision", "transformers")
FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve")


def cpu_fields():
    """Name and features as Linux tells them."""
    fields = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as text:
            for line in text:
                key, _, value = line.partition(":")
                fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name", platform.machine()), [feature for feature in FEATURES if feature in flags]


def build_of(program):
    """Names the program's bytes."""
    with open(program, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def describe(tilewright):
    cpu, features = cpu_fields()
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    said = subprocess.run([tilewright, "--version"], capture_output=True, text=True).stdout.split() if os.path.exists(tilewright) else []
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "features": features,
        "date": datetime.date.today().isoformat(),
        "versions": {"tilewright": said[-1] if said else "unknown"} | versions,
        "build": build_of(tilewright) if os.path.exists(tilewright) else "none",
    }


class Others:
    """Cores that other programs keep busy, on average since this was made; children of this process that have ended are no others."""

    def __init__(self):
        self.start = time.monotonic(), self.whole_machine(), self.ours()

    @staticmethod
    def whole_machine():
        """Seconds of all cores in programs and the kernel, not waiting."""
        with open("/proc/stat", encoding="utf-8") as text:
            user, nice, system, _, _, interrupts, soft = map(int, text.readline().split()[1:8])
        return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def ours():
        return sum(os.times()[:4])

    def cores(self):
        start, machine, own = self.start
        return max(0.0, (self.whole_machine() - machine - (self.ours() - own)) / (time.monotonic() - start))
