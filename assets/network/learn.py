#!/usr/bin/env python3
"""Learns the built-in network layer by layer from the drawn textures, without labels and without a gradient.

    python3 pictures.py pool.npy
    python3 learn.py pool.npy ../builtin.safetensors

A layer's filters are the centroids of spherical k-means over whitened 3x3 patches of the layer before (Coates and Ng 2012,
"Learning Feature Representations with K-means"). Whitening drops the weakest directions, which are where colour fringes
and grain come from. A bias keeps most of each channel's swing positive. About a minute on a CPU core; needs PyTorch.
"""
import argparse
import hashlib
import json

import numpy as np
import torch
from torch.nn import functional as F

LAYERS = {'conv1_1': 64, 'conv1_2': 64, 'conv2_1': 128, 'conv2_2': 128, 'conv3_1': 256, 'conv3_2': 256, 'conv3_3': 256,
          'conv3_4': 256}
MEAN = [123.68, 116.779, 103.939]
UNIT = 57.4
# Root mean square that every layer's activations are scaled to, so that the weights of losses carry over from VGG-19.
# Its own are 45, 193, 169, 231, 154, 164, 289, 511, averaged over photos and paintings at 256 pixels with average pooling;
# the layers whose style the presets look at are a third louder here, since more of it is a constant.
LOUDNESS = dict(zip(LAYERS, [59, 193, 222, 231, 203, 164, 289, 511]))


def crops(pool, count, side, random):
    """[count, 3, side, side], 0..255 minus the mean."""
    which = random.integers(len(pool), size=count)
    corners = random.integers(pool.shape[1] - side, size=(count, 2))
    x = np.stack([pool[i, y:y + side, x:x + side] for i, (y, x) in zip(which, corners)])
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() - torch.tensor(MEAN).view(1, 3, 1, 1)


def patches(maps, count):
    """[count, 9 C]: 3x3 windows from random places of all maps."""
    total, found = sum(len(batch) for batch in maps), []
    for batch in maps:
        for one in batch:
            windows = one.unfold(1, 3, 1).unfold(2, 3, 1)
            y, x = (torch.randint(size, (count // total,)) for size in windows.shape[1:3])
            found.append(windows[:, y, x].transpose(0, 1).reshape(len(y), -1))
    return torch.cat(found)


def filters(x, width, a):
    """Centroids of whitened patches, as [9 C, width] for the patches as they are, with responses of unit deviation."""
    covariance = x.T @ x / len(x)
    strength, direction = torch.linalg.eigh(covariance)
    strength, direction = strength.flip(0).clamp_min(0), direction.flip(1)
    kept = min(int((strength.cumsum(0) < a.keep * strength.sum()).sum()) + 1, a.most)
    whiten = direction[:, :kept] * strength[:kept] ** (-a.power / 2)
    z = x @ whiten
    length = z.norm(dim=1, keepdim=True)
    z = z / (length + a.floor * length.median())  # faint patches stay faint
    centroids = F.normalize(z[torch.randperm(len(z))[:width]], dim=1)
    for _ in range(a.rounds):
        match, nearest = (z @ centroids.T).max(1)
        total = torch.zeros_like(centroids).index_add_(0, nearest, z * match[:, None])
        alone = total.norm(dim=1, keepdim=True) < 1e-6
        centroids = F.normalize(torch.where(alone, torch.randn_like(total), total), dim=1)
    kernel = whiten @ centroids.T
    return kernel / (x @ kernel).std(0), kept


def learn(pool, a):
    """[(kernel [Co, Ci, 3, 3], bias [Co])]."""
    maps, convs = list(crops(pool, a.crops, a.side, np.random.default_rng(a.seed)).div(UNIT).split(16)), []
    for name, width in list(LAYERS.items())[:a.depth]:
        if name.endswith('_1') and convs:
            maps = [F.avg_pool2d(batch, 2) for batch in maps]
        x = patches(maps, a.patches)
        mean = x.mean(0)
        kernel, kept = filters(x - mean, width, a)
        bias = a.bias - mean @ kernel
        kernel = kernel.T.reshape(width, -1, 3, 3)
        maps = [F.relu(F.conv2d(batch, kernel, bias, padding=1)) for batch in maps]
        loudness = torch.cat([batch.square().mean((1, 2, 3)) for batch in maps]).mean().sqrt()
        positive = np.mean([(batch > 0).float().mean() for batch in maps])
        print('%s: %d of %d directions, positive %.2f' % (name, kept, x.shape[1], positive), flush=True)
        convs.append((kernel, bias, loudness))
    scaled, before = [], UNIT
    for name, (kernel, bias, loudness) in zip(LAYERS, convs):
        gain = LOUDNESS[name] / loudness
        scaled.append((kernel * (gain / before), bias * gain))
        before = gain
    return scaled


def save(path, convs):
    """Safetensors in the program's own layout, half precision, with the digests that it looks for."""
    about = {'format': 'impasto', 'source': "built-in network (VGG-19's layers, learnt from drawn textures)",
             'mean': ','.join(map(str, MEAN)), 'activation_unit': str(UNIT), 'license': 'MIT OR Apache-2.0',
             'orientation': '[row, column, input, output], as trained'}
    header, data, offset = {}, [], 0
    for name, tensors in zip(LAYERS, convs):
        kernel, bias = (tensor.numpy().astype('<f2') for tensor in tensors)
        kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
        assert np.isfinite(kernel).all() and np.isfinite(bias).all()
        for part, values in (('weight', kernel), ('bias', bias)):
            header['%s.%s' % (name, part)] = {'dtype': 'F16', 'shape': list(values.shape),
                                              'data_offsets': [offset, offset + values.nbytes]}
            data.append(values.tobytes())
            offset += values.nbytes
        about['sha256.' + name] = hashlib.sha256(np.concatenate([kernel.ravel(), bias]).astype('<f4').tobytes()).hexdigest()
    seal = hashlib.sha256()
    for key in sorted(about):
        for text in (key.encode(), about[key].encode()):
            seal.update(len(text).to_bytes(8, 'little') + text)
    header['__metadata__'] = dict(about, seal=seal.hexdigest())
    text = json.dumps(header, sort_keys=True, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text + b''.join(data))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('pool')
    p.add_argument('out')
    p.add_argument('--crops', type=int, default=480)
    p.add_argument('--side', type=int, default=96)
    p.add_argument('--patches', type=int, default=60000)
    p.add_argument('--rounds', type=int, default=10, help='of k-means')
    p.add_argument('--keep', type=float, default=0.97, help='share of the variance that whitening keeps')
    p.add_argument('--most', type=int, default=100, help='directions that whitening keeps at most')
    p.add_argument('--floor', type=float, default=1, help='patches fainter than so many medians count less')
    p.add_argument('--bias', type=float, default=1, help='in deviations of the response')
    p.add_argument('--depth', type=int, default=8, help='layers; the presets but `article` need 5')
    p.add_argument('--power', type=float, default=0.8, help='of whitening: 0 leaves the directions as strong as they are')
    p.add_argument('--seed', type=int, default=0)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)  # sums in one order
    with torch.no_grad():
        save(a.out, learn(np.load(a.pool, mmap_mode='r'), a))


if __name__ == '__main__':
    main()
