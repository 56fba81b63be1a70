"""The products by warpgroups of tile/kernels/simt_wgmma_contract_test.cu, run over torch tensors: on a GPU, or in the emulator of one."""

import ctypes
import os

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE = os.path.join(ROOT, "tile/kernels/simt_wgmma_contract_test.cu")
NVCC = ["nvcc", "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-w", "-gencode=arch=compute_90a,code=sm_90a", "-shared", "-Xcompiler", "-fPIC"]
EMULATED = ["g++", "-std=c++20", "-O2", "-w", "-shared", "-fPIC", "-x", "c++"]
PIECE = 16  # bytes that lines are multiples of
# Batch, m, n, k, whether the batch shares b: whole tiles, sums and edges that end anywhere, more tiles than a GPU has multiprocessors.
SMALL = [(1, 128, 256, 256, False), (1, 200, 300, 130, False), (3, 65, 129, 72, False), (2, 17, 40, 1, True)]
LARGE = SMALL + [(1, 4096, 4096, 1024, False), (5, 1000, 1111, 777, True)]


def commands(folder, on_gpu):
    """What builds the library for a GPU, and without one the library for the emulator too; the library to run."""
    gpu, emulated = os.path.join(folder, "products_gpu.so"), os.path.join(folder, "products_emulated.so")
    build = [[*NVCC, f"-I{ROOT}", SOURCE, "-o", gpu]]
    if not on_gpu:
        build.append([*EMULATED, f"-I{ROOT}", SOURCE, "-o", emulated, "-lboost_context"])
    return build, gpu if on_gpu else emulated


class Products:
    def __init__(self, path):
        library = ctypes.CDLL(path)
        self.start, library.product_name.restype = library.run_product, ctypes.c_char_p
        self.start.restype = ctypes.c_char_p
        self.names = []
        while (name := library.product_name(len(self.names))) is not None:
            self.names.append(name.decode())

    def check(self, name, size, device, seed):
        """Raises unless every result of the product is right: factors are small integers, so sums are exact."""
        kind, _, left, right, *boxed = name.split()
        batch, m, n, k, shared = size
        dtype = getattr(torch, kind)
        generator = torch.Generator().manual_seed(seed)

        def factor(entries, rows, lies_along):
            """As it lies, and [entries, rows, k] in float64."""
            lines, length = (rows, k) if lies_along == "k" else (k, rows)
            piece = PIECE // dtype.itemsize
            values = torch.randint(-4, 5, (entries, lines, length), generator=generator)
            stored = torch.full((entries, lines, -(-length // piece) * piece + piece), 77, dtype=dtype)  # what lies between lines is never read
            stored[:, :, :length] = values.to(dtype)
            return stored.to(device), (values if lies_along == "k" else values.transpose(1, 2)).double()

        a, wide_a = factor(batch, m, left)
        b, wide_b = factor(1 if shared else batch, n, right)
        result = getattr(torch, boxed[0]) if boxed else torch.int32 if dtype == torch.int8 else torch.float32
        piece = PIECE // result.itemsize
        y = torch.full((batch, m, -(-n // piece) * piece + piece), -77, dtype=result, device=device)
        tensors = (ctypes.c_void_p * 3)(*(tensor.data_ptr() for tensor in (a, b, y)))
        sizes = (ctypes.c_int64 * 8)(batch, m, n, k, a.shape[2], b.shape[2], y.shape[2], shared)
        self.wait(device)
        failure = self.start(self.names.index(name), tensors, sizes)
        if failure is not None:
            raise RuntimeError(failure.decode())
        self.wait(device)
        expected = torch.full(y.shape, -77, dtype=torch.float64)  # what lies between lines is never written
        expected[:, :, :n] = (wide_a @ wide_b.transpose(1, 2)).to(result).double()
        wrong = (y.cpu().double() != expected).nonzero()
        if len(wrong) > 0:
            raise RuntimeError(f"{len(wrong)} of {y.numel()} results are wrong, the first at {wrong[0].tolist()}, the last at {wrong[-1].tolist()}")

    @staticmethod
    def wait(device):
        if device != "cpu":
            torch.cuda.synchronize()
