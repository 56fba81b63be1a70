"""Networks that no package of ours brings as a class, written as small PyTorch modules: YOLOv8-n, a Stable-Diffusion-like UNet, a speech model."""

import math

import torch
from torch import nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, channels_in, channels_out, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3)

    def forward(self, x):
        return functional.silu(self.norm(self.conv(x)))


class C2f(nn.Module):
    """Splits the channels, sends one half through `depth` bottlenecks, and joins every intermediate result."""

    def __init__(self, channels_in, channels_out, depth, shortcut):
        super().__init__()
        half = channels_out // 2
        self.enter = ConvBlock(channels_in, channels_out)
        self.leave = ConvBlock((2 + depth) * half, channels_out)
        self.bottlenecks = nn.ModuleList(nn.Sequential(ConvBlock(half, half, 3), ConvBlock(half, half, 3)) for _ in range(depth))
        self.shortcut = shortcut

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        for bottleneck in self.bottlenecks:
            y = bottleneck(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.leave(torch.cat(parts, 1))


class PyramidPooling(nn.Module):
    """SPPF: three 5x5 maximum poolings one after the other, joined."""

    def __init__(self, channels):
        super().__init__()
        self.enter = ConvBlock(channels, channels // 2)
        self.leave = ConvBlock(2 * channels, channels)

    def forward(self, x):
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, 1))


class DetectionHead(nn.Module):
    """Boxes as the expectation of 16 bins a side, and scores of 80 classes, over three scales."""

    def __init__(self, channels, classes=80, bins=16, size=640):
        super().__init__()
        def branch(c, width, out):
            return nn.Sequential(ConvBlock(c, width, 3), ConvBlock(width, width, 3), nn.Conv2d(width, out, 1))
        self.boxes = nn.ModuleList(branch(c, 64, 4 * bins) for c in channels)
        self.scores = nn.ModuleList(branch(c, 80, classes) for c in channels)
        strides = (8, 16, 32)
        grids = [torch.stack(torch.meshgrid(*[torch.arange(size // s) + 0.5] * 2, indexing="ij")[::-1]).flatten(1) for s in strides]
        self.register_buffer("anchors", torch.cat(grids, 1))
        self.register_buffer("strides", torch.cat([torch.full((1, grid.shape[1]), float(s)) for s, grid in zip(strides, grids)], 1))
        self.register_buffer("bins", torch.arange(bins).float())

    def forward(self, features):
        boxes = torch.cat([branch(x).flatten(2) for branch, x in zip(self.boxes, features)], 2)
        scores = torch.cat([branch(x).flatten(2) for branch, x in zip(self.scores, features)], 2)
        sides = boxes.unflatten(1, (4, -1)).softmax(2)
        left_top, right_bottom = (sides * self.bins[:, None]).sum(2).chunk(2, 1)
        low, high = self.anchors - left_top, self.anchors + right_bottom
        return torch.cat([(low + high) / 2 * self.strides, (high - low) * self.strides, scores.sigmoid()], 1)


class YoloV8Nano(nn.Module):
    def __init__(self, size=640):
        super().__init__()
        self.stem = nn.Sequential(ConvBlock(3, 16, 3, 2), ConvBlock(16, 32, 3, 2), C2f(32, 32, 1, True))
        self.scale8 = nn.Sequential(ConvBlock(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.scale16 = nn.Sequential(ConvBlock(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.scale32 = nn.Sequential(ConvBlock(128, 256, 3, 2), C2f(256, 256, 1, True), PyramidPooling(256))
        self.up16, self.up8 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.down16, self.down32 = ConvBlock(64, 64, 3, 2), ConvBlock(128, 128, 3, 2)
        self.out16, self.out32 = C2f(192, 128, 1, False), C2f(384, 256, 1, False)
        self.head = DetectionHead((64, 128, 256), size=size)

    def forward(self, image):
        a = self.scale8(self.stem(image))
        b = self.scale16(a)
        c = self.scale32(b)
        double = lambda x: functional.interpolate(x, scale_factor=2.0, mode="nearest")  # noqa: E731
        b = self.up16(torch.cat([double(c), b], 1))
        a = self.up8(torch.cat([double(b), a], 1))
        b = self.out16(torch.cat([self.down16(a), b], 1))
        return self.head([a, b, self.out32(torch.cat([self.down32(b), c], 1))])


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, with the time embedding added between."""

    def __init__(self, channels_in, channels_out, time):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, channels_in), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, channels_out), nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.time = nn.Linear(time, channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(functional.silu(self.norm1(x))) + self.time(functional.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(functional.silu(self.norm2(y)))


class Attention(nn.Module):
    def __init__(self, channels, context, heads=8):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key, self.value = nn.Linear(context, channels, bias=False), nn.Linear(context, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x, context):
        split = lambda y: y.unflatten(2, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        y = functional.scaled_dot_product_attention(split(self.query(x)), split(self.key(context)), split(self.value(context)))
        return self.out(y.transpose(1, 2).flatten(2))


class SpatialTransformer(nn.Module):
    """Self-attention over the pixels, cross-attention to the text, a gated feed-forward layer."""

    def __init__(self, channels, context=768):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.enter, self.leave = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(channels), nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.self_attention, self.cross_attention = Attention(channels, channels), Attention(channels, context)
        self.gated, self.narrow = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x, context):
        y = self.enter(self.norm(x)).flatten(2).transpose(1, 2)
        z = self.norm1(y)
        y = y + self.self_attention(z, z)
        y = y + self.cross_attention(self.norm2(y), context)
        value, gate = self.gated(self.norm3(y)).chunk(2, 2)
        y = y + self.narrow(value * functional.gelu(gate))
        return x + self.leave(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class DiffusionUNet(nn.Module):
    """The first two levels of Stable Diffusion 1.5 and a middle: 320 channels at full size, 640 at half."""

    def __init__(self, wide=320, time=1280):
        super().__init__()
        deep, self.wide = 2 * wide, wide
        self.time = nn.Sequential(nn.Linear(wide, time), nn.SiLU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(4, wide, 3, padding=1)
        block = lambda a, b: nn.ModuleList([ResidualBlock(a, b, time), SpatialTransformer(b)])  # noqa: E731
        self.down1, self.shrink = nn.ModuleList([block(wide, wide), block(wide, wide)]), nn.Conv2d(wide, wide, 3, 2, 1)
        self.down2 = nn.ModuleList([block(wide, deep), block(deep, deep)])
        self.middle, self.middle_end = block(deep, deep), ResidualBlock(deep, deep, time)
        self.up2 = nn.ModuleList([block(2 * deep, deep), block(2 * deep, deep), block(deep + wide, deep)])
        self.grow = nn.Conv2d(deep, deep, 3, padding=1)
        self.up1 = nn.ModuleList([block(deep + wide, wide), block(2 * wide, wide), block(2 * wide, wide)])
        self.norm, self.leave = nn.GroupNorm(32, wide), nn.Conv2d(wide, 4, 3, padding=1)

    def forward(self, latents, timestep, context):
        half = self.wide // 2
        angles = timestep[:, None] * torch.exp(-math.log(10000.0) / half * torch.arange(half, dtype=latents.dtype))
        time = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        x = self.enter(latents)
        kept = [x]
        for residual, transformer in self.down1:
            x = transformer(residual(x, time), context)
            kept.append(x)
        x = self.shrink(x)
        kept.append(x)
        for residual, transformer in self.down2:
            x = transformer(residual(x, time), context)
            kept.append(x)
        x = self.middle_end(self.middle[1](self.middle[0](x, time), context), time)
        for residual, transformer in self.up2:
            x = transformer(residual(torch.cat([x, kept.pop()], 1), time), context)
        x = self.grow(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        for residual, transformer in self.up1:
            x = transformer(residual(torch.cat([x, kept.pop()], 1), time), context)
        return self.leave(functional.silu(self.norm(x)))


class SpeechRecogniser(nn.Module):
    """Three bidirectional LSTM layers over frames of a spectrogram, and the logarithms of letter probabilities."""

    def __init__(self, features=80, width=512, layers=3, letters=29):
        super().__init__()
        self.lstm = nn.LSTM(features, width, layers, bidirectional=True, batch_first=True)
        self.letters = nn.Linear(2 * width, letters)

    def forward(self, frames):
        return self.letters(self.lstm(frames)[0]).log_softmax(2)
