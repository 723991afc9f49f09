#!/usr/bin/env python3
"""Trajectories of the optimisers in float64, for tests/optimizers.rs. Needs PyTorch; prints optimizers.json.

The losses are those of a network of one convolution with seeded weights: content and style at relu1_1, and the total
variation. Adam, L-BFGS and the resampling between scales are PyTorch's own. Average, clamp, decay and the carry from one
scale to the next are written out here, from their definitions: crowsonkb's order of things is step, clamp, average.
"""
import importlib
import json
import math

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


LBFGS = importlib.import_module("torch.optim.lbfgs")


def reach_out_by_slopes(x1, f1, g1, x2, f2, g2, bounds=None, cubic=LBFGS._cubic_interpolate):
    """PyTorch's interpolation where it narrows a bracket; where it reaches out, the zero of the slopes' secant. Losses
    along the first lengths differ too little for single precision to tell their cubic."""
    if bounds is None:
        return cubic(x1, f1, g1, x2, f2, g2)
    change = g2 - g1
    return max(min(float(x2 - g2 * (x2 - x1) / change), bounds[1]), bounds[0]) if change > 0 else bounds[1]


LBFGS._cubic_interpolate = reach_out_by_slopes
MEAN = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
MASK = (1 << 64) - 1


def mixed(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def word(seed, counter):
    return mixed(((seed << 32) + counter + 1) * 0x9E3779B97F4A7C15 & MASK) & 0xFFFFFFFF


def noise(seed, count):
    return np.array([(word(seed, i) >> 8) / 8388608.0 - 1.0 for i in range(count)])


def normal(seed, count):
    """Box-Muller on 53-bit uniforms, as the program's own noise."""
    uniform = [((mixed((seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK) >> 11) + 0.5) / 2**53 for i in range(count + count % 2)]
    values = []
    for u, w in zip(uniform[::2], uniform[1::2]):
        radius = math.sqrt(-2.0 * math.log(u))
        values += [radius * math.cos(math.tau * w), radius * math.sin(math.tau * w)]
    return np.array(values[:count])


def picture(values, height, width):
    """[H, W, 3] to [1, 3, H, W]"""
    return torch.tensor(values).view(height, width, 3).permute(2, 0, 1).unsqueeze(0).contiguous()


def noise_picture(seed, height, width):
    values = np.float32(127.5) + np.float32(127.5) * noise(seed, height * width * 3).astype(np.float32)
    return picture(values.astype(np.float64), height, width) - MEAN


# [3, 3, Ci, Co] as the program has it.
KERNEL = torch.tensor(noise(5, 9 * 3 * 64).astype(np.float32) * np.float32(0.25)).double().view(3, 3, 3, 64).permute(3, 2, 0, 1)
BIAS = torch.tensor(noise(6, 64)).double()


def feature(x):
    return F.relu(F.conv2d(x, KERNEL, BIAS, padding=1))


def gram(f):
    f = f.flatten(2)[0]
    return f @ f.T / f.numel()


class Losses:
    def __init__(self, content, style):
        self.content, self.style = feature(content), gram(feature(style))

    def __call__(self, x):
        f = feature(x)
        style = 200.0 / (2 * f.numel()) * (gram(f) - self.style).pow(2).sum()
        content = 4.0 / (2 * f.numel()) * (f - self.content).pow(2).sum()
        tv = 0.5 * ((x[..., 1:, :] - x[..., :-1, :]).pow(2).mean() + (x[..., 1:] - x[..., :-1]).pow(2).mean())
        return content + style + tv


class Normalized:
    """Each term's gradient at the activation divided by its L1 norm + 1e-8, times its weight; no total variation."""

    def __init__(self, content, style):
        self.content, self.style = feature(content), gram(feature(style))

    def __call__(self, x):
        f = feature(x)
        total, follows = 0.0, 0.0
        for weight, target in [(4.0, self.content), (200.0, None)]:
            at = f.detach().requires_grad_()
            squares = (at - target).pow(2) if target is not None else (gram(at) - self.style).pow(2)
            loss = squares.sum() / (2 * at.numel())
            slope, = torch.autograd.grad(loss, at)
            total += weight * loss.detach()
            follows = follows + (f * (weight * slope / (slope.abs().sum() + 1e-8))).sum()
        return follows + (total - follows).detach()


class Average:
    """value / (1 - decay^n): an exponential average, corrected for its start at zero."""

    def __init__(self, decay, x):
        self.decay, self.value, self.rest = decay, torch.zeros_like(x), 1.0
        self.update(x)

    def update(self, x):
        self.rest *= self.decay
        self.value = self.decay * self.value + (1 - self.decay) * x

    def get(self):
        return self.value / (1 - self.rest)


def run(losses, x, steps, optimizer, decay=1.0, clamp=False, ema=0.0):
    """Steps from x; the losses before each, and the result."""
    average, found = Average(ema, x.detach().clone()), []
    for step in range(steps):
        def closure():
            optimizer.zero_grad()
            loss = losses(x)
            loss.backward()
            return loss.detach()

        found.append(float(optimizer.step(closure)))
        for group in optimizer.param_groups:
            group["lr"] *= decay
        with torch.no_grad():
            if clamp:
                x.copy_(torch.max(torch.min(x, 255 - MEAN), -MEAN))
            average.update(x.detach())
    return found, (average.get() if ema else x.detach())


def adam(x, lr, betas):
    return torch.optim.Adam([x], lr=lr, betas=betas, eps=1e-8)


def case(found, x):
    rgb = (x + MEAN)[0].permute(1, 2, 0).flatten().tolist()
    return {"losses": found, "samples": [round(value, 6) for value in rgb[::7]]}


content, style = noise_picture(7, 20, 16), noise_picture(31, 15, 18)
single = Losses(content, style)


def start():
    return content.clone().requires_grad_()


cases = {}
x = start()
cases["adam"] = case(*run(single, x, 20, adam(x, 2.0, (0.9, 0.99))))
x = start()
cases["decay clamp average"] = case(*run(single, x, 20, adam(x, 9.0, (0.9, 0.99)), 0.9, True, 0.8))
x = start()
cases["normalized"] = case(*run(Normalized(content, style), x, 20, adam(x, 2.0, (0.9, 0.99))))
for name, history, ema in [("lbfgs", 10, 0.0), ("lbfgs of three pairs", 3, 0.0), ("lbfgs average", 10, 0.7)]:
    x = start()
    optimizer = torch.optim.LBFGS(
        [x], lr=1, max_iter=1, max_eval=100, history_size=history, line_search_fn="strong_wolfe",
        tolerance_grad=0, tolerance_change=0)
    cases[name] = case(*run(single, x, 20, optimizer, ema=ema))

# Two scales: a flat content picture, which is the same at every size, and a start of noise.
flat = torch.tensor([90.0, 120.0, 150.0]).view(1, 3, 1, 1) - MEAN
small = Losses(flat.expand(1, 3, 10, 8).clone(), style)
large = Losses(flat.expand(1, 3, 20, 16).clone(), style)
x = picture(normal(3, 240).astype(np.float32).astype(np.float64), 10, 8).requires_grad_()
first = adam(x, 9.0, (0.9, 0.99))
before, left = run(small, x, 12, first, clamp=True, ema=0.8)
state = first.state[x]
x = F.interpolate(left, (20, 16), mode="bicubic")
x = torch.max(torch.min(x, 255 - MEAN), -MEAN).requires_grad_()
second = adam(x, 9.0, (0.9, 0.99))
second.state[x] = {
    "step": state["step"],
    "exp_avg": F.interpolate(state["exp_avg"], (20, 16), mode="bicubic"),
    "exp_avg_sq": F.interpolate(state["exp_avg_sq"], (20, 16), mode="bilinear").relu(),
}
after, result = run(large, x, 12, second, clamp=True, ema=0.8)
cases["two scales"] = case(before + after, result)
print(json.dumps(cases))
