#!/usr/bin/env python3
"""Trains the bundled digit classifier: a small convolutional network, in numpy, on the 8×8 digits that scikit-learn ships.

  python3 -m venv build/venv && build/venv/bin/pip install numpy scikit-learn
  build/venv/bin/python examples/digits/train.py

Writes beside itself digits.onnx, labels.txt, images/digit_<label>{a,b}.npy (the first two held-out images of each digit), and all
twenty as batch.npy with this script's own probabilities for them in batch_expected.npy.
"""

import os
import sys

import numpy as np
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "..", "scripts"))
from onnx_writer import Model  # noqa: E402

LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WIDTH1, WIDTH2, CLASSES = 24, 48, 10


def windows(x):
    """[n, c, h, w] → [n·h·w, c·9]: the 3×3 neighbourhoods of every pixel, zeros outside."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)


def scatter_windows(columns, shape):
    """The transpose of windows(): adds every neighbourhood back to where it came from."""
    n, c, h, w = shape
    columns = columns.reshape(n, h, w, c, 3, 3)
    padded = np.zeros((n, c, h + 2, w + 2), columns.dtype)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + w] += columns[:, :, :, :, i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


class Convolution:
    def __init__(self, draw, channels_in, channels_out):
        self.weight = draw.normal(0, np.sqrt(2 / (9 * channels_in)), (channels_out, channels_in, 3, 3)).astype(np.float32)
        self.bias = np.zeros(channels_out, np.float32)

    def forward(self, x):
        self.shape, self.columns = x.shape, windows(x)
        n, _, h, w = x.shape
        out = self.columns @ self.weight.reshape(len(self.bias), -1).T + self.bias
        return out.reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def backward(self, gradient):
        rows = gradient.transpose(0, 2, 3, 1).reshape(-1, len(self.bias))
        self.gradients = [(rows.T @ self.columns).reshape(self.weight.shape), rows.sum(0)]
        return scatter_windows(rows @ self.weight.reshape(len(self.bias), -1), self.shape)


class Linear:
    def __init__(self, draw, size_in, size_out):
        self.weight = draw.normal(0, np.sqrt(1 / size_in), (size_out, size_in)).astype(np.float32)
        self.bias = np.zeros(size_out, np.float32)

    def forward(self, x):
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.weight.T + self.bias

    def backward(self, gradient):
        self.gradients = [gradient.T @ self.x, gradient.sum(0)]
        return (gradient @ self.weight).reshape(self.shape)


class Relu:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, gradient):
        return gradient * self.mask


class MaxPool:
    """2×2, stride 2."""

    def forward(self, x):
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // 2, 2, w // 2, 2)
        out = cells.max((3, 5))
        self.mask = cells == out[:, :, :, None, :, None]
        return out

    def backward(self, gradient):
        spread = self.mask * gradient[:, :, :, None, :, None]
        n, c, h, _, w, _ = spread.shape
        return spread.reshape(n, c, 2 * h, 2 * w)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def forward(layers, x):
    for layer in layers:
        x = layer.forward(x)
    return x


def train(layers, images, labels, draw, epochs=30, batch=64):
    """Adam on the cross entropy, the step falling along a cosine."""
    trained = [layer for layer in layers if hasattr(layer, "weight")]
    moments = [[[np.zeros_like(p), np.zeros_like(p)] for p in (layer.weight, layer.bias)] for layer in trained]
    steps, step = epochs * (len(images) // batch), 0
    for _ in range(epochs):
        order = draw.permutation(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            gradient = softmax(forward(layers, images[chosen]))
            gradient[np.arange(batch), labels[chosen]] -= 1
            gradient = (gradient / batch).astype(np.float32)
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
            step += 1
            rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
            for layer, pairs in zip(trained, moments):
                for parameter, slope, pair in zip((layer.weight, layer.bias), layer.gradients, pairs):
                    pair[0] += 0.1 * (slope - pair[0])
                    pair[1] += 0.001 * (slope * slope - pair[1])
                    mean, square = pair[0] / (1 - 0.9**step), pair[1] / (1 - 0.999**step)
                    parameter -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)


def save(layers, path):
    model = Model("digits", opset=13)

    def parameters(layer, name):
        return [model.floats(f"{name}.{what}", list(value.shape), value.astype("<f4").tobytes()) for what, value in (("weight", layer.weight), ("bias", layer.bias))]

    x = model.input("image", ["batch", 1, 8, 8])
    for name, conv in (("conv1", layers[0]), ("conv2", layers[3])):
        x = model.node("Conv", [x] + parameters(conv, name), f"{name}.out", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        x = model.node("MaxPool", [model.node("Relu", [x])], kernel_shape=[2, 2], strides=[2, 2])
    x = model.node("Flatten", [x], axis=1)
    x = model.node("Gemm", [x] + parameters(layers[6], "dense"), "dense.out", transB=1)
    model.node("Softmax", [x], "probability", axis=1)
    model.output("probability", ["batch", CLASSES])
    model.save(path)
    return model.parameters


def main():
    draw = np.random.default_rng(2024)
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]  # grey levels 0…16 → 0…1
    order = draw.permutation(len(images))
    held_out, used = order[: len(order) // 3], order[len(order) // 3 :]
    layers = [Convolution(draw, 1, WIDTH1), Relu(), MaxPool(), Convolution(draw, WIDTH1, WIDTH2), Relu(), MaxPool(), Linear(draw, WIDTH2 * 2 * 2, CLASSES)]
    train(layers, images[used], data.target[used], draw)
    answers = forward(layers, images[held_out]).argmax(1)
    right = int((answers == data.target[held_out]).sum())
    count = save(layers, os.path.join(HERE, "digits.onnx"))
    print(f"{count} weights; {right} of {len(held_out)} held-out images right ({100 * right / len(held_out):.1f} %)")
    with open(os.path.join(HERE, "labels.txt"), "w") as file:
        file.write("\n".join(LABELS) + "\n")
    os.makedirs(os.path.join(HERE, "images"), exist_ok=True)
    shown = []
    for label in range(CLASSES):
        for copy, index in zip("ab", [i for i in held_out if data.target[i] == label]):
            np.save(os.path.join(HERE, "images", f"digit_{label}{copy}.npy"), images[index : index + 1])
            shown.append(index)
    np.save(os.path.join(HERE, "batch.npy"), images[shown])
    np.save(os.path.join(HERE, "batch_expected.npy"), softmax(forward(layers, images[shown]).astype(np.float64)).astype(np.float32))



main()
