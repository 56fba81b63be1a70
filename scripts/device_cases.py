"""What scripts/device-check runs: products by warpgroups, whole networks, matrix products, attention. Each case is an ONNX file, a PyTorch module that means
the same, and fresh inputs for every check."""

import os
import sys
from dataclasses import dataclass
from typing import Callable

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))
import models  # noqa: E402
import networks  # noqa: E402

ONNX_TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16, torch.int8: TensorProto.INT8}
# What ‖y − y64‖ / ‖y64‖ may be: products and networks in float32 stay far below 1e-4; a result of 16 bits carries its own rounding.
BOUNDS = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.int8: 0.0}


@dataclass
class Case:
    name: str
    kind: str  # "boxes", "network", "product" or "attention"
    dtype: torch.dtype
    write: Callable  # (path): the ONNX file
    module: Callable  # (*inputs): what it computes; of a network, an nn.Module
    inputs: Callable  # (generator): tensors on the CPU
    operations: float = 0  # floating-point ones of a run; 0: not counted
    sanitize: bool = False  # small enough for compute-sanitizer
    has: str = ""  # what the kernels' source must have


class UnetBlock(nn.Module):
    """One block of a diffusion UNet: a residual block with group norms, self- and cross-attention."""

    def __init__(self, channels):
        super().__init__()
        self.residual, self.transformer = networks.ResidualBlock(channels, channels, 4 * channels), networks.SpatialTransformer(channels)

    def forward(self, image, time, context):
        return self.transformer(self.residual(image, time), context)


def unet_block_inputs(channels, size):
    def inputs(batch, random):
        return {"image": random.standard_normal((batch, channels, size, size), "float32"), "time": random.standard_normal((batch, 4 * channels), "float32"),
                "context": random.standard_normal((batch, 77, 768), "float32")}

    return inputs


def network(model, batch):
    """A network of bench/models.py in float32, its weights seeded where it runs: nothing but the compiler's description of it travels."""
    import numpy

    torch.manual_seed(1)
    module = model.build().eval()
    with torch.no_grad():
        models.settle(module, [torch.from_numpy(value) for value in model.inputs(8, numpy.random.default_rng(2)).values()])

    def inputs(generator):
        random = numpy.random.default_rng(int(torch.randint(1 << 31, (1,), generator=generator)))
        return [torch.from_numpy(value) for value in model.inputs(batch, random).values()]

    def write(path):
        example = inputs(torch.Generator().manual_seed(0))
        program = torch.onnx.export(module, tuple(example), input_names=list(model.inputs(1, numpy.random.default_rng(0))), output_names=list(model.outputs),
                                    dynamo=True, verbose=False)
        program.save(path, external_data=False)

    return Case(f"{model.name} x{batch}", "network", torch.float32, write, module, inputs)


def graph(name, nodes, inputs, outputs):
    """An ONNX model of `nodes` over values {name: (dtype, dims)}."""
    described = [[helper.make_tensor_value_info(value, dtype, dims) for value, (dtype, dims) in values.items()] for values in (inputs, outputs)]
    return helper.make_model(helper.make_graph(nodes, name, *described), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def draw(dims, dtype, generator):
    if dtype == torch.int8:
        return torch.randint(-128, 128, dims, generator=generator, dtype=torch.int8)
    return torch.randn(dims, generator=generator).to(dtype)


def size_name(kind, dims, dtype):
    return f"{kind} {' x '.join(map(str, dims))} {str(dtype).removeprefix('torch.')}"


def product(m, n, k, dtype, sanitize=False):
    """[m, k] · [k, n], both given."""
    whole = dtype == torch.int8

    def write(path):
        node = helper.make_node("MatMulInteger" if whole else "MatMul", ["a", "b"], ["y"])
        kind = ONNX_TYPES[dtype]
        onnx.save(graph("product", [node], {"a": (kind, [m, k]), "b": (kind, [k, n])}, {"y": (TensorProto.INT32 if whole else kind, [m, n])}), path)

    def module(a, b):
        return torch._int_mm(a, b) if a.dtype == torch.int8 else a @ b

    return Case(size_name("product", [m, n, k], dtype), "product", dtype, write, module, lambda g: [draw([m, k], dtype, g), draw([k, n], dtype, g)], 2.0 * m * n * k, sanitize)


def boxes(batch, m, n, k, lies, dtype):
    """[batch, m, k] · [batch, k, n] by warpgroups, of factors that a copy engine takes. `lies`: "k" where a factor's neighbours in memory are along k, else "m"
    and "n"."""
    whole, entries = dtype == torch.int8, [batch] if batch > 1 else []
    a = entries + ([m, k] if lies[0] == "k" else [k, m])
    b = entries + ([n, k] if lies[1] == "k" else [k, n])

    def write(path):
        def turned(name, dims, turn):
            order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2] if turn else [*range(len(dims))]
            return helper.make_node("Transpose", [name], [name + "t"], perm=order)

        nodes = [turned("a", a, lies[0] != "k"), turned("b", b, lies[1] == "k"), helper.make_node("MatMulInteger" if whole else "MatMul", ["at", "bt"], ["y"])]
        kind = ONNX_TYPES[dtype]
        onnx.save(graph("boxes", nodes, {"a": (kind, a), "b": (kind, b)}, {"y": (TensorProto.INT32 if whole else kind, [*entries, m, n])}), path)

    def module(a, b):
        left, right = a if lies[0] == "k" else a.transpose(-1, -2), b.transpose(-1, -2) if lies[1] == "k" else b
        return torch._int_mm(left, right) if a.dtype == torch.int8 else left @ right

    return Case(f"{size_name('boxes', [batch, m, n, k], dtype)} {lies}", "boxes", dtype, write, module, lambda g: [draw(a, dtype, g), draw(b, dtype, g)],
                2.0 * batch * m * n * k, True, "WgmmaTiles")


def attention(batch, heads, length, width, dtype, sanitize=False):
    """softmax(q · kᵀ / √width) · v over [batch, heads, length, width]."""
    dims = [batch, heads, length, width]

    def write(path):
        kind = ONNX_TYPES[dtype]
        scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [width**-0.5])
        nodes = [helper.make_node("Constant", [], ["scale32"], value=scale), helper.make_node("Cast", ["scale32"], ["scale"], to=kind),
                 helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]), helper.make_node("MatMul", ["q", "kt"], ["scores"]),
                 helper.make_node("Mul", ["scores", "scale"], ["scaled"]), helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1),
                 helper.make_node("MatMul", ["weights", "v"], ["y"])]
        onnx.save(graph("attention", nodes, {name: (kind, dims) for name in "qkv"}, {"y": (kind, dims)}), path)

    return Case(size_name("attention", dims, dtype), "attention", dtype, write, functional.scaled_dot_product_attention, lambda g: [draw(dims, dtype, g) for _ in "qkv"],
                4.0 * batch * heads * length * length * width, sanitize)


def cases(small):
    """By name, functions that make a case each, so that what is left out costs nothing. `small`: sizes that a CPU takes too."""
    channels, size = (64, 8) if small else (320, 32)
    block = models.Model("unet_block", lambda: UnetBlock(channels), unet_block_inputs(channels, size), ("out",))
    by_name = {model.name: model for model in models.MODELS} | {"unet_block": block}
    made = {}
    half, short, single, byte = torch.float16, torch.bfloat16, torch.float32, torch.int8
    for row in [(1, 512, 1024, 512, "mk", half), (2, 1024, 1024, 264, "kn", half), (3, 512, 1032, 264, "mn", short), (1, 1024, 1024, 256, "kk", byte)]:
        *sizes, lies, dtype = row
        made[f"{size_name('boxes', sizes, dtype)} {lies}"] = lambda row=row: boxes(*row)
    for name, batch in (("resnet50", 8), ("bert_base_128", 8), ("vit_b_16", 8), ("unet_block", 2)):
        made[name] = lambda model=by_name[name], batch=1 if small else batch: network(model, batch)
    tables = {product: [(64, 80, 96, dtype, True) for dtype in (single, half, short, byte)] + [(67, 33, 129, dtype, True) for dtype in (single, half)],
              attention: [(1, 2, 40, 16, single, True), (1, 2, 48, 32, half, True)]}
    if not small:
        tables[product] += [(size, size, size, dtype) for size in (1024, 4096) for dtype in (single, half, short, byte)] + [(8192, 8192, 8192, half)]
        tables[product] += [(1024, 3072, 768, half), (1024, 768, 3072, half), (128, 768, 768, single)]
        tables[attention] += [(8, 12, 128, 64, single), (8, 12, 512, 64, half), (1, 16, 2048, 64, half), (1, 16, 2048, 128, short)]
    for table, rows in tables.items():
        for row in rows:
            dims = [part for part in row if isinstance(part, int) and part is not True]
            made[size_name(table.__name__, dims, row[len(dims)])] = lambda table=table, row=row: table(*row)
    return made
