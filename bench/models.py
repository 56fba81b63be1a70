"""The models of bench/compare: PyTorch modules with seeded weights, their inputs, and their ONNX files as PyTorch's exporter writes them."""

import os
from dataclasses import dataclass
from typing import Callable

import networks
import numpy
import torch

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Model:
    """One line of the benchmark. `build` makes the module; `inputs(batch, random)` its inputs by name, numpy arrays of float32 or int64.

    The first axis of every input and output is the batch, whose items differ and do not depend on each other.
    """

    name: str
    build: Callable
    inputs: Callable
    outputs: tuple
    quick: bool = False


class Bert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig())

    def forward(self, input_ids, attention_mask, token_type_ids):
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return result.last_hidden_state, result.pooler_output


class Gpt2(torch.nn.Module):
    """Scores of the next token and the keys and values of each layer, in the order key.0, value.0, key.1, ..."""

    def __init__(self):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.model = GPT2LMHeadModel(GPT2Config())

    def forward(self, input_ids, *past):
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        present = [part for layer in result.past_key_values.layers for part in (layer.keys, layer.values)]
        return (result.logits, *present)


def torchvision_model(name, **options):
    def build():
        import torchvision

        return getattr(torchvision.models, name)(weights=None, **options)

    return build


def image(size):
    return lambda batch, random: {"image": random.standard_normal((batch, IMAGE_CHANNELS, size, size), numpy.float32)}


def bert_inputs(length):
    def inputs(batch, random):
        """A sixteenth of the sequence is padding, in later items two to four, so that no engine can drop the mask or keep one row of it."""
        padding = length // 16 * (1 + numpy.arange(batch) % 4)
        mask = (numpy.arange(length) < length - padding[:, None]).astype(numpy.int64)
        return {
            "input_ids": random.integers(0, 30000, (batch, length)),
            "attention_mask": mask,
            "token_type_ids": (numpy.arange(length) > length // 2).astype(numpy.int64)[None].repeat(batch, 0),
        }

    return inputs


def gpt2_names(prefix):
    return [f"{prefix}.{what}.{layer}" for layer in range(12) for what in ("key", "value")]


def gpt2_inputs(tokens, past):
    def inputs(batch, random):
        ids = {"input_ids": random.integers(0, 50000, (batch, tokens))}
        return ids | {name: random.standard_normal((batch, 12, past, 64), numpy.float32) for name in gpt2_names("past") if past}

    return inputs


def unet_inputs(batch, random):
    return {
        "latents": random.standard_normal((batch, 4, 32, 32), numpy.float32),
        "timestep": (501 - 20 * numpy.arange(batch)).astype(numpy.float32),
        "context": random.standard_normal((batch, 77, 768), numpy.float32),
    }


def speech_inputs(batch, random):
    return {"frames": random.standard_normal((batch, 200, 80), numpy.float32)}


GPT2_OUTPUTS = ("logits", *gpt2_names("present"))
MODELS = [
    Model("resnet50", torchvision_model("resnet50"), image(224), ("logits",), quick=True),
    Model("mobilenet_v2", torchvision_model("mobilenet_v2"), image(224), ("logits",), quick=True),
    Model("inception_v3", torchvision_model("inception_v3", aux_logits=False, init_weights=False), image(299), ("logits",)),
    Model("vgg16", torchvision_model("vgg16"), image(224), ("logits",)),
    Model("vit_b_16", torchvision_model("vit_b_16"), image(224), ("logits",)),
    Model("yolov8n", networks.YoloV8Nano, image(640), ("boxes_and_scores",)),
    Model("bert_base_128", Bert, bert_inputs(128), ("hidden", "pooled"), quick=True),
    Model("bert_base_384", Bert, bert_inputs(384), ("hidden", "pooled")),
    Model("gpt2_prefill_128", Gpt2, gpt2_inputs(128, 0), GPT2_OUTPUTS),
    Model("gpt2_decode_128", Gpt2, gpt2_inputs(1, 128), GPT2_OUTPUTS, quick=True),
    Model("sd_unet", networks.DiffusionUNet, unet_inputs, ("noise",)),
    Model("lstm_speech", networks.SpeechRecogniser, speech_inputs, ("letters",), quick=True),
]


def settle(module, inputs):
    """Makes untrained weights behave like trained ones: no weight matrix of zeros, and batch norms that know the statistics of their inputs."""
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    norms = [part for part in module.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    if norms:
        module(*inputs)
    for norm in norms:
        norm.eval()


class Case:
    """A model with one batch size: the module, the inputs, the ONNX file, and the results in double precision."""

    def __init__(self, model, batch, folder):
        self.name, self.batch = model.name, batch
        self.stem = os.path.join(folder, model.name + (f".b{batch}" if batch > 1 else ""))
        self.path = self.stem + ".onnx"
        self.output_names = list(model.outputs)
        self.inputs = model.inputs(batch, numpy.random.default_rng(1))
        self.tensors = [torch.from_numpy(value) for value in self.inputs.values()]
        torch.manual_seed(1)
        self.module = model.build().eval()
        with torch.no_grad():
            settle(self.module, [torch.from_numpy(value) for value in model.inputs(8, numpy.random.default_rng(2)).values()])
        self.export()
        self.expected = self.double_precision()
        self.module.float()

    def export(self):
        """Static shapes; the file stays for later runs, since weights are the same each time."""
        sources = (__file__, networks.__file__)
        if os.path.exists(self.path) and os.path.getmtime(self.path) > max(map(os.path.getmtime, sources)):
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        program = torch.onnx.export(self.module, tuple(self.tensors), input_names=list(self.inputs), output_names=self.output_names, dynamo=True, verbose=False)
        program.save(self.path + ".part", external_data=False)
        os.replace(self.path + ".part", self.path)

    def double_precision(self):
        """Results for each item alone, joined: a batch is held to what no batch is, in one item's memory (convolutions in double precision unfold operands)."""
        module, items = self.module.double(), []
        for item in range(self.batch):
            tensors = [tensor[item : item + 1] for tensor in self.tensors]
            with torch.inference_mode():
                results = module(*[tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors])
            items.append(results if isinstance(results, tuple) else (results,))
        return [torch.cat(parts).numpy() for parts in zip(*items, strict=True)]

    def error(self, results):
        """‖y − y64‖ / ‖y64‖ over all outputs and items together."""
        shapes, wanted = [result.shape for result in results], [right.shape for right in self.expected]
        if shapes != wanted:
            raise RuntimeError(f"wrong results: shapes {shapes}, not {wanted}")
        wrong = sum(float(((result.astype(numpy.float64) - right) ** 2).sum()) for result, right in zip(results, self.expected, strict=True))
        return (wrong / sum(float((right**2).sum()) for right in self.expected)) ** 0.5
