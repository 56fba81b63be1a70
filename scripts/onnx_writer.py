"""Writes ONNX files with the standard library alone.

Only what the scripts here need of the ONNX schema (onnx/onnx.proto): a Model collects nodes and initialisers, and `save` streams
them to a file, so that a model of half a gigabyte needs no second copy of its weights.
"""

import random
import struct
from statistics import NormalDist

FLOAT, INT64, FLOAT16 = 1, 7, 10  # TensorProto.DataType
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS = 1, 2, 3, 7  # AttributeProto.AttributeType


def _varint(number):
    number &= (1 << 64) - 1  # negative numbers are ten bytes of two's complement
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _integer(field, number):
    return _varint(field << 3) + _varint(number)


def _bytes(field, value):
    if isinstance(value, str):
        value = value.encode()
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _single(field, number):
    return _varint(field << 3 | 5) + struct.pack("<f", number)


def _attribute(name, value):
    if isinstance(value, float):
        return _bytes(1, name) + _single(2, value) + _integer(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return _bytes(1, name) + _integer(3, value) + _integer(20, _ATTRIBUTE_INT)
    if isinstance(value, str):
        return _bytes(1, name) + _bytes(4, value) + _integer(20, _ATTRIBUTE_STRING)
    return _bytes(1, name) + b"".join(_integer(8, item) for item in value) + _integer(20, _ATTRIBUTE_INTS)


def _value(name, dtype, dims):
    shape = b"".join(_bytes(1, _bytes(2, dim) if isinstance(dim, str) else _integer(1, dim)) for dim in dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, _integer(1, dtype) + _bytes(2, shape)))


class Model:
    """A graph under construction. Names of results are made up from the operator and a count; dims that are strings are run-time sizes."""

    def __init__(self, name, opset):
        self.name, self.opset = name, opset
        self.nodes, self.inputs, self.outputs, self.initializers = [], [], [], []
        self.parameters = 0  # elements of float initialisers

    def input(self, name, dims, dtype=FLOAT):
        self.inputs.append(_value(name, dtype, dims))
        return name

    def output(self, name, dims, dtype=FLOAT):
        self.outputs.append(_value(name, dtype, dims))

    def node(self, operator, inputs, output=None, **attributes):
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        parts = [_bytes(1, name) for name in inputs] + [_bytes(2, output), _bytes(3, output), _bytes(4, operator)]
        parts += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
        self.nodes.append(b"".join(parts))
        return output

    def floats(self, name, dims, raw):
        """Initialiser from little-endian float32 bytes."""
        count = 1
        for dim in dims:
            count *= dim
        assert len(raw) == 4 * count, name
        self.parameters += count
        return self._initializer(name, dims, FLOAT, raw)

    def integers(self, name, values):
        return self._initializer(name, [len(values)], INT64, struct.pack(f"<{len(values)}q", *values))

    def _initializer(self, name, dims, dtype, raw):
        head = b"".join(_integer(1, dim) for dim in dims) + _integer(2, dtype) + _bytes(8, name)
        self.initializers.append((head + _varint(9 << 3 | 2) + _varint(len(raw)), raw))
        return name

    def save(self, path):
        head = b"".join(_bytes(1, node) for node in self.nodes) + _bytes(2, self.name)
        tail = b"".join(_bytes(11, value) for value in self.inputs) + b"".join(_bytes(12, value) for value in self.outputs)
        framed = [(_varint(5 << 3 | 2) + _varint(len(start) + len(raw)) + start, raw) for start, raw in self.initializers]
        size = len(head) + len(tail) + sum(len(start) + len(raw) for start, raw in framed)
        with open(path, "wb") as file:
            file.write(_integer(1, 8) + _bytes(2, "tilewright") + _bytes(8, _integer(2, self.opset)))  # IR version 8
            file.write(_varint(7 << 3 | 2) + _varint(size) + head)
            for start, raw in framed:
                file.write(start)
                file.write(raw)
            file.write(tail)


class Weights:
    """Seeded float32 values, the same on every machine and Python version, quick without numpy.

    A random byte picks one of 256 quantiles of the distribution as sign, exponent and seven bits of mantissa; two more random bytes
    fill the rest of the mantissa. That is a histogram of 256 bars instead of a smooth density.
    """

    _quantiles = [NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)]

    def __init__(self, seed):
        self._random = random.Random(seed)

    def _from_table(self, count, values):
        tops = [struct.pack(">f", value)[:2] for value in values]
        picks = self._random.randbytes(count)
        raw = bytearray(4 * count)
        raw[3::4] = picks.translate(bytes(top[0] for top in tops))
        raw[2::4] = picks.translate(bytes(top[1] for top in tops))
        raw[1::4] = self._random.randbytes(count)
        raw[0::4] = self._random.randbytes(count)
        return bytes(raw)

    def normal(self, count, mean, deviation):
        return self._from_table(count, [mean + deviation * quantile for quantile in self._quantiles])

    def uniform(self, count, low, high):
        return self._from_table(count, [low + (high - low) * (i + 0.5) / 256 for i in range(256)])
