#!/usr/bin/env python3
"""Training pictures of the built-in network: textures drawn from rules alone, one per seed.

    python3 pictures.py OUT.npy [--count 1024] [--side 320]      uint8 [count, side, side, 3]
    python3 pictures.py OUT.png --count 60 --side 160           a sheet to look at

No photograph, painting or other outside picture goes in. A seed chooses a family (noise, marble, strokes, leaves,
hatching, cells ...), its parameters and a palette; half of the textures mix two. Needs numpy, scipy, Pillow.
"""
import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree


class Sheet:
    """A square to draw on: random numbers, coordinates in pixels, and the blocks that families are built of."""

    def __init__(self, seed, side):
        self.random = np.random.default_rng(seed)
        self.side = side
        self.y, self.x = np.mgrid[:side, :side].astype(np.float32)

    def uniform(self, low, high):
        return float(self.random.uniform(low, high))

    def between(self, low, high):
        """Log-uniform: sizes and frequencies."""
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def chance(self, probability):
        return self.random.random() < probability

    # Fields: [side, side], mean 0, deviation 1.
    def noise(self, exponent=2.0, largest=None, smallest=None, direction=None, stretch=1.0):
        """Noise with power 1/f^exponent between two wavelengths (pixels), stretched along a direction."""
        frequency = np.fft.fftfreq(self.side)
        fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
        if direction is not None:
            c, s = np.cos(direction), np.sin(direction)
            fx, fy = (c * fx + s * fy) * stretch, (-s * fx + c * fy)
        f = np.maximum(np.hypot(fx, fy), 0.5 / self.side)
        amplitude = f ** (-exponent / 2)
        if largest:
            amplitude *= f > 1 / largest
        if smallest:
            amplitude *= np.exp(-(f * smallest) ** 2)
        field = np.fft.ifft2(np.fft.fft2(self.random.standard_normal(fx.shape)) * amplitude).real
        return normal(field)

    def smooth(self, wavelength):
        return normal(gaussian_filter(self.random.standard_normal((self.side,) * 2), wavelength / 3, mode='wrap'))

    def angles(self):
        """A flow: one direction, a wandering one, or whirls."""
        kind = self.random.integers(4)
        angle = np.full((self.side,) * 2, self.uniform(0, np.pi), np.float32)
        if kind >= 1:
            angle = angle + self.uniform(0.2, 1.2) * self.smooth(self.between(30, 150))
        if kind == 3:
            for _ in range(self.random.integers(2, 7)):
                cy, cx = self.random.uniform(0, self.side, 2)
                reach = self.between(20, 90)
                around = np.arctan2(self.y - cy, self.x - cx) + np.pi / 2 + self.uniform(-0.4, 0.4)
                near = np.exp(-((self.y - cy) ** 2 + (self.x - cx) ** 2) / (2 * reach ** 2))
                double = (1 - near) * np.exp(2j * angle) + near * np.exp(2j * around)
                angle = np.angle(double) / 2
        return angle

    def along(self, field, angle, length):
        """Line integral convolution (Cabral and Leedom 1993): smears a field along the flow."""
        total = field.copy()
        dy, dx = np.sin(angle), np.cos(angle)
        for sign in (1, -1):
            y, x = self.y.copy(), self.x.copy()
            sy = sx = None
            for _ in range(int(length / 2)):
                vy = map_coordinates(dy, (y, x), order=0, mode='wrap')
                vx = map_coordinates(dx, (y, x), order=0, mode='wrap')
                if sy is None:
                    flip = np.full_like(vy, sign)
                else:  # directions have no sign: go on as one came
                    flip = np.where(vy * sy + vx * sx < 0, -1, 1)
                sy, sx = vy * flip, vx * flip
                y, x = y + sy, x + sx
                total += map_coordinates(field, (y, x), order=1, mode='wrap')
        return normal(total)

    def coordinates(self):
        """Rotated coordinates, pushed about by noise."""
        angle = self.uniform(0, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        u, v = c * self.x + s * self.y, c * self.y - s * self.x
        push = self.random.choice([0, 1, 4, 12, 30])
        wavelength = self.between(20, 120)
        return u + push * self.smooth(wavelength), v + push * self.smooth(wavelength)

    def light(self, height, strength):
        """Raking light over a relief: about -1..1."""
        angle = self.uniform(0, 2 * np.pi)
        gy, gx = np.gradient(height)
        return np.tanh(strength * (np.cos(angle) * gx + np.sin(angle) * gy))

    # Colour, RGB in 0..255.
    def palette(self, size):
        """Colours as photos and paint have them: lightness varies most, blue-yellow more than red-green."""
        lightness = np.clip(self.uniform(70, 190) + self.uniform(25, 75) * self.random.standard_normal(size), 5, 250)
        vivid = self.between(0.25, 3)
        blue = self.uniform(-25, 25) + vivid * 22 * self.random.standard_normal(size)
        red = self.uniform(-12, 12) + vivid * 13 * self.random.standard_normal(size)
        rgb = np.stack([lightness + 1.2 * red - 0.5 * blue, lightness - 0.6 * red - 0.15 * blue,
                        lightness + 0.2 * red + 1.2 * blue], -1)
        return np.clip(rgb, 0, 255)

    def colour(self, field, levels=None):
        """Colours a field by rank: a gradient through a palette, or flat steps."""
        colours = self.palette(levels or self.random.integers(2, 6))
        rank = 0.5 + 0.5 * np.tanh(field * self.uniform(0.5, 1.5))
        if levels:
            return colours[np.minimum((rank * levels).astype(int), levels - 1)]
        at = rank * (len(colours) - 1)
        low = np.minimum(at.astype(int), len(colours) - 2)
        part = (at - low)[..., None]
        return colours[low] * (1 - part) + colours[low + 1] * part

    def paint(self, canvas, cy, cx, reach, mask, colour):
        """Blends `colour` where `mask(dy, dx)` (0..1, in pixels from the centre) says, the sheet being a torus."""
        reach = int(min(reach, self.side // 2 - 1)) + 1
        offset = np.arange(-reach, reach + 1)
        iy, ix = int(cy), int(cx)
        dy, dx = (offset[:, None] + iy - cy), (offset[None, :] + ix - cx)
        cover = mask(dy.astype(np.float32), dx.astype(np.float32))
        rows, columns = (offset + iy) % self.side, (offset + ix) % self.side
        index = np.ix_(rows, columns)
        if callable(colour):
            colour = colour(dy, dx)
        cover = cover[..., None] if canvas.ndim == 3 else cover
        canvas[index] += cover * (colour - canvas[index])


def normal(field):
    return ((field - field.mean()) / (field.std() + 1e-9)).astype(np.float32)


# Families: each draws [side, side, 3] in about 0..255.
def clouds(s):
    stretch = s.random.choice([1, 1, 3, 8])
    field = s.noise(s.uniform(0, 4), direction=s.uniform(0, np.pi), stretch=stretch)
    return s.colour(field, s.random.choice([None, None, 2, 4]))


def natural(s):
    """The spectrum of photos, colours nearly independent."""
    grey, blue, red = (s.noise(s.uniform(1.5, 3)) for _ in range(3))
    a, b, c = s.uniform(30, 60), s.uniform(3, 25), s.uniform(2, 15)
    rgb = np.stack([grey * a + red * c - blue * b / 2, grey * a - red * c / 2, grey * a + blue * b], -1)
    return rgb + s.palette(1)[0]


def marble(s):
    u, v = s.coordinates()
    wave = np.sin(2 * np.pi * u / s.between(6, 60) + s.uniform(0, 4) * s.noise(s.uniform(2, 4)))
    if s.chance(0.3):
        wave = np.abs(wave) ** s.between(0.3, 1) * 3 - 1.5
    return s.colour(1.5 * wave, s.random.choice([None, None, 3]))


def smears(s):
    """Paint smeared along a flow, with a relief."""
    angle = s.angles()
    grain = s.between(1, 5)
    fine = s.along(normal(gaussian_filter(s.random.standard_normal((s.side,) * 2), grain, mode='wrap')), angle,
                   s.between(8, 60))
    ground = s.noise(3) * s.uniform(0.4, 1.2) + fine * s.uniform(0.4, 1.2)
    rgb = s.colour(ground, s.random.choice([None, None, 3, 6]))
    return rgb + s.uniform(0, 45) * s.light(fine, s.between(0.3, 3))[..., None]


def strokes(s):
    """Single strokes along a flow, coarse before fine."""
    angle = s.angles()
    colours, where = s.palette(s.random.integers(3, 8)), s.noise(s.uniform(2, 4), smallest=10)
    rgb = np.broadcast_to(colours[0], (s.side, s.side, 3)).copy()
    relief = np.zeros((s.side, s.side))
    width, ratio = s.between(2, 9), s.between(2, 9)
    spread, bristle = s.uniform(0, 0.35), s.between(0.7, 3)
    for size in (1.8, 1.0):
        half = width * size / 2
        for _ in range(int(min(1.6 * s.side ** 2 / (4 * half * half * ratio), 2500))):
            cy, cx = s.random.uniform(0, s.side, 2)
            a = angle[int(cy), int(cx)] + spread * s.random.standard_normal()
            c, d = np.cos(a), np.sin(a)
            bend = 0.3 * s.random.standard_normal() / (half * ratio)
            level = int(len(colours) * (0.5 + 0.5 * np.tanh(where[int(cy), int(cx)] + 0.3 * s.random.standard_normal())))
            paint = colours[min(level, len(colours) - 1)] + 8 * s.random.standard_normal(3)
            phase = s.uniform(0, 6)

            def mask(dy, dx):
                t, n = c * dx + d * dy, c * dy - d * dx
                n = n - bend * t * t
                inside = np.minimum(half * ratio - np.abs(t), half - np.abs(n) * (1 + 0.3 * t / (half * ratio)))
                return np.clip(inside + 0.5, 0, 1)

            def ridges(dy, dx):
                n = c * dy - d * dx - bend * (c * dx + d * dy) ** 2
                return np.sin(n * 2 * np.pi / bristle / 2 + phase) + 1.5 - (n / half) ** 2

            s.paint(rgb, cy, cx, half * (ratio + 1), mask, paint)
            s.paint(relief, cy, cx, half * (ratio + 1), mask, ridges)
    return rgb + s.uniform(0, 40) * s.light(relief, s.between(0.3, 2))[..., None]


def leaves(s):
    """Dead leaves (Matheron 1968): shapes with sizes by a power law, each hiding those before."""
    kind = s.random.integers(4)
    smallest, largest = s.between(2, 8), s.between(20, 80)
    exponent = s.uniform(1.5, 3.5)
    colours = s.palette(s.random.integers(3, 12))
    rgb = np.broadcast_to(colours[0], (s.side, s.side, 3)).copy()
    texture = s.noise(s.uniform(0, 3)) * s.random.choice([0, 8, 20])
    aligned, tilt = s.chance(0.4), s.uniform(0, np.pi)
    flat, soft, shade = s.between(0.3, 1), s.between(0.4, 2), s.random.choice([0, 15, 40])
    for _ in range(1400):
        # Inverse of the power law's distribution.
        p = s.random.random()
        low, high = smallest ** (1 - exponent), largest ** (1 - exponent)
        radius = (low + p * (high - low)) ** (1 / (1 - exponent))
        cy, cx = s.random.uniform(0, s.side, 2)
        a = tilt + 0.15 * s.random.standard_normal() if aligned else s.uniform(0, 2 * np.pi)
        c, d = np.cos(a), np.sin(a)
        edges = s.random.integers(3, 7)

        def mask(dy, dx):
            t, n = c * dx + d * dy, (c * dy - d * dx) / flat
            if kind == 0:
                distance = np.hypot(t, n)
            elif kind == 1:
                distance = np.maximum(np.abs(t), np.abs(n))
            elif kind == 2:
                turn = 2 * np.pi / edges
                distance = np.hypot(t, n) * np.cos((np.arctan2(n, t) % turn) - turn / 2) / np.cos(turn / 2)
            else:
                distance = np.hypot(t, n) * (1 + 0.3 * np.sin(edges * np.arctan2(n, t)))
            return np.clip((radius - distance) / soft + 0.5, 0, 1)

        tint = colours[s.random.integers(len(colours))] + 10 * s.random.standard_normal(3)
        slope = shade / radius
        s.paint(rgb, cy, cx, radius * 1.5 + 1, mask, lambda dy, dx: tint + (slope * (dy + dx))[..., None])
    return rgb + texture[..., None]


def hatching(s):
    """Layers of lines, more where it is darker."""
    dark = normal(s.noise(3, smallest=8))
    ink, ground = s.palette(2)
    total = np.zeros((s.side,) * 2)
    spacing, first = s.between(3, 14), s.uniform(0, np.pi)
    wobble = s.random.choice([0, 0.5, 2])
    for layer in range(s.random.integers(1, 4)):
        angle = first + layer * s.uniform(0.6, 1.6)
        u = np.cos(angle) * s.x + np.sin(angle) * s.y + wobble * s.smooth(20)
        line = 0.5 + 0.5 * np.cos(2 * np.pi * u / spacing)
        total = np.maximum(total, 1 / (1 + np.exp(-8 * (line - 0.75 + 0.25 * (dark - layer * 0.5)))))
    return ground + total[..., None] * (ink - ground)


def cells(s):
    """Voronoi cells: flat, rounded or cracked."""
    points = s.random.uniform(0, s.side, (int(s.side ** 2 / s.between(6, 40) ** 2) + 3, 2))
    stretch, angle = s.random.choice([1, 1, 2.5]), s.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * [[1], [stretch]]
    push = s.random.choice([0, 3, 8])
    grid = np.stack([s.y + push * s.smooth(25), s.x + push * s.smooth(25)], -1)
    distance, index = cKDTree(points @ turn.T).query(grid @ turn.T, k=2)
    edge = distance[..., 1] - distance[..., 0]
    colours = s.palette(s.random.integers(2, 9))
    cell = colours[index[..., 0] % len(colours)]
    kind = s.random.integers(3)
    if kind == 0:
        return cell + s.uniform(0, 40) * s.light(np.sqrt(edge), 2)[..., None]
    if kind == 1:
        width = s.between(1, 4)
        line = np.clip(1.5 - edge / width, 0, 1)[..., None]
        return cell * (1 - line) + line * s.palette(1)[0]
    return s.colour(normal(distance[..., 0]))


def spots(s):
    """Noise of one wavelength, cut off: spots, zebra, labyrinths."""
    wavelength = s.between(5, 40)
    field = s.noise(0, largest=wavelength * 1.4, smallest=wavelength * 0.6, direction=s.uniform(0, np.pi),
                    stretch=s.random.choice([1, 1, 2, 4]))
    sharp = s.between(1, 8)
    return s.colour(np.tanh(sharp * (field + s.uniform(-0.8, 0.8))))


def contours(s):
    """Lines of equal height."""
    field = s.noise(s.uniform(3, 4.5)) * s.between(1, 6)
    edge = np.abs(field - np.round(field)) / (np.hypot(*np.gradient(field)) + 1e-3)
    line = np.clip(s.between(0.8, 3) - edge, 0, 1)[..., None]
    ground = s.colour(normal(np.round(field))) if s.chance(0.5) else s.palette(1)[0]
    return ground * (1 - line) + line * s.palette(1)[0]


def lattice(s):
    """Checks, bricks, dots, weave."""
    u, v = s.coordinates()
    period = s.between(6, 40)
    u, v = u / period, v / period * s.between(0.5, 1.5)
    kind = s.random.integers(4)
    if kind == 0:
        return s.colour(2 * np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v)) + 0.2 * s.noise(1))
    if kind == 1:
        row = np.floor(v)
        a, b = (u + 0.5 * (row % 2)) % 1, v % 1
        gap = np.minimum(np.minimum(a, 1 - a), np.minimum(b, 1 - b)) * period
        colours = s.palette(6)
        brick = colours[(np.floor(u + 0.5 * (row % 2)) * 7 + row * 3).astype(int) % 6]
        mortar = np.clip(s.between(1, 3) - gap, 0, 1)[..., None]
        return brick * (1 - mortar) + mortar * s.palette(1)[0] + s.uniform(0, 15) * s.noise(1)[..., None]
    if kind == 2:
        a, b = u % 1 - 0.5, v % 1 - 0.5
        return s.colour((s.uniform(0.2, 0.45) - np.hypot(a, b)) * period)
    over = (np.floor(u) + np.floor(v)) % 2
    thread = np.where(over > 0, np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v)))
    return s.colour(normal(thread) + 0.3 * over)


def whirls(s):
    """Spirals and rings around several centres."""
    phase = np.zeros((s.side,) * 2)
    for _ in range(s.random.integers(1, 8)):
        cy, cx = s.random.uniform(0, s.side, 2)
        r, around = np.hypot(s.y - cy, s.x - cx), np.arctan2(s.y - cy, s.x - cx)
        near = np.exp(-r / s.between(20, 100))
        phase += near * (r / s.between(1, 5) + s.random.integers(-2, 3) * around)
    field = np.sin(phase * s.uniform(0.5, 1.5) + s.uniform(0, 2) * s.noise(3))
    return s.colour(field * 1.5) + s.uniform(0, 30) * s.light(field, 2)[..., None]


def relief(s):
    """A lit surface."""
    height = s.noise(s.uniform(2, 4), smallest=s.between(2, 8), direction=s.uniform(0, np.pi),
                     stretch=s.random.choice([1, 2, 5]))
    lit = s.light(height, s.between(2, 20))
    return s.colour(s.noise(3)) * 0.6 + 0.4 * s.palette(1)[0] + s.uniform(30, 80) * lit[..., None]


def scraps(s):
    """Thin straight and curved lines thrown on a ground."""
    rgb = s.colour(s.noise(s.uniform(2, 4)))
    colours, width = s.palette(4), s.between(0.8, 3)
    for _ in range(int(s.between(80, 700))):
        cy, cx = s.random.uniform(0, s.side, 2)
        a, length, bend = s.uniform(0, np.pi), s.between(6, 50), s.uniform(-0.03, 0.03)
        c, d = np.cos(a), np.sin(a)

        def mask(dy, dx):
            t, n = c * dx + d * dy, c * dy - d * dx
            return np.clip(np.minimum(length - np.abs(t), width - np.abs(n - bend * t * t)) + 0.5, 0, 1)

        s.paint(rgb, cy, cx, length + 2, mask, colours[s.random.integers(4)])
    return rgb


FAMILIES = [clouds, natural, marble, smears, smears, strokes, strokes, strokes, leaves, leaves, hatching, cells, spots,
            contours, lattice, whirls, relief, scraps]


def picture(seed, side=320):
    """The texture of this seed, uint8 [side, side, 3]."""
    s = Sheet(seed, side)
    rgb = FAMILIES[s.random.integers(len(FAMILIES))](s)
    kind = s.random.integers(6)
    if kind < 3:
        other = FAMILIES[s.random.integers(len(FAMILIES))](s)
        if kind == 0:  # patches
            part = 1 / (1 + np.exp(-s.between(2, 30) * s.noise(3, smallest=s.between(4, 30))))[..., None]
            rgb = rgb * part + other * (1 - part)
        elif kind == 1:  # its lightness over the first's colours
            rgb = rgb + s.uniform(0.3, 0.7) * (other.mean(-1, keepdims=True) - other.mean())
        else:  # glaze
            rgb = rgb * 0.5 + other * 0.5
            rgb = (rgb - rgb.mean()) * 1.4 + rgb.mean()
    if s.chance(0.5):  # light falling off
        rgb = rgb * (1 + s.uniform(0, 0.3) * s.noise(4, smallest=80))[..., None]
    blur = s.random.choice([0, 0, 0.5, 0.8])
    rgb = gaussian_filter(rgb, (blur, blur, 0), mode='wrap') + s.random.choice([0, 2, 5]) * s.random.standard_normal(rgb.shape)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def pool(count, side, first=0):
    with ProcessPoolExecutor() as workers:
        return np.stack(list(workers.map(picture, range(first, first + count), [side] * count, chunksize=8)))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out')
    p.add_argument('--count', type=int, default=1024)
    p.add_argument('--side', type=int, default=320)
    a = p.parse_args()
    pictures = pool(a.count, a.side)
    if a.out.endswith('.npy'):
        np.save(a.out, pictures)
    else:
        from PIL import Image
        columns = 10
        rows = [np.concatenate(pictures[i:i + columns], 1) for i in range(0, a.count - a.count % columns, columns)]
        Image.fromarray(np.concatenate(rows)).save(a.out)
