#!/usr/bin/env python3
"""How near pictures made with some weights come to those made with VGG-19, by VGG-19's own losses.

    python3 benches/builtin_judge.py OUT_FOLDER --impasto BINARY [--pairs 4] NAME=WEIGHTS[,OPTION...] ...

Needs the test data (IMPASTO_SHARED): pictures, and the original weights to conv3_4. For every pair of content and style
it runs the binary (preset `draft`, 256 pixels) with the original weights (`real`), and with each NAME's, e.g.
`random=builtin random2=builtin,--style-weight=6000`. Every result is then the start of one more run with the original
weights, whose log gives the losses before the first step. Prints, for each NAME, the median over the pairs of
(NAME - real) / (first NAME - real) of the style loss (relu1_1 + relu2_1 + relu3_1, as the preset weighs them), of each
layer's, of relu3_4's, which nothing optimised, and the medians of content losses in those of `real`. Results that are
there are not made again. `--sheet OUT.jpg` puts content, style and all results into one picture (needs Pillow).
"""
import argparse, concurrent.futures, json, os, statistics, subprocess, sys

CONTENTS = ['tubingen', 'golden_gate', 'sofa_nap', 'westlake']
STYLES = ['starry_night', 'the_scream', 'great_wave', 'composition_vii']
STYLE, CHECK, CONTENT = ['relu1_1', 'relu2_1', 'relu3_1'], ['relu2_2', 'relu3_2', 'relu3_4'], ['relu2_2', 'relu3_2']

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument('out')
p.add_argument('candidates', nargs='+', metavar='NAME=WEIGHTS')
p.add_argument('--impasto', required=True)
p.add_argument('--pairs', type=int, default=16, help='the first so many, along the diagonals')
p.add_argument('--real', default=None, help='the original weights')
p.add_argument('--jobs', type=int, default=1)
p.add_argument('--threads', default='2')
p.add_argument('--sheet')
a = p.parse_args()
shared = os.environ.get('IMPASTO_SHARED', '../shared')
real = a.real or os.path.join(shared, 'vgg19/imagenet-vgg-verydeep-19.beta16.PARTIAL.mat')
os.makedirs(a.out, exist_ok=True)
pairs = [(CONTENTS[i], STYLES[(i + d) % 4]) for d in range(4) for i in range(4)][:a.pairs]
runs = {'real': [real]}
runs.update((name, value.split(',')) for name, value in (c.split('=', 1) for c in a.candidates))
picture = lambda name: os.path.join(shared, 'images', name + '.jpg')
result = lambda name, pair: os.path.join(a.out, '%s-%s-%s.png' % (*pair, name))


def impasto(pair, *options):
    command = [a.impasto, 'stylize', picture(pair[0]), '-s', picture(pair[1]), '--preset', 'draft', '--device', 'cpu',
               '--threads', a.threads, '--quiet', '--overwrite', *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit('%s: %s' % (' '.join(command), done.stderr))


def losses(name, pair):
    """Makes the picture if need be; its losses under the original weights, by layer."""
    path, (weights, *options) = result(name, pair), runs[name]
    note = path[:-4] + '.json'
    settings = [weights, os.path.getmtime(weights) if os.path.exists(weights) else 0, options]
    if os.path.exists(note):
        known = json.load(open(note))
        if known['settings'] == settings:
            return known['losses']
    impasto(pair, '--weights', weights, '-o', path, *options)
    log, spare = path[:-4] + '.jsonl', path[:-4] + '.spare.png'
    impasto(pair, '--weights', real, '--init', path, '--min-scale', 'none', '-n', '1', '--log', log, '-o', spare,
            '--style-layers', ','.join(STYLE + CHECK), '--content-layers', ','.join(CONTENT))
    found = json.loads(open(log).readline())
    os.remove(log), os.remove(spare)
    json.dump({'settings': settings, 'losses': found}, open(note, 'w'))
    return found


with concurrent.futures.ThreadPoolExecutor(a.jobs) as workers:
    jobs = [(name, pair) for pair in pairs for name in runs]
    found = dict(zip(jobs, workers.map(lambda job: losses(*job), jobs)))
first = a.candidates[0].split('=', 1)[0]


def median(name, keys, kind='style'):
    total = lambda name, pair: sum(found[name, pair]['%s/%s' % (kind, key)] for key in keys)
    if kind == 'content':
        return statistics.median(total(name, pair) / total('real', pair) for pair in pairs)
    part = lambda pair: (total(name, pair) - total('real', pair)) / (total(first, pair) - total('real', pair))
    return statistics.median(map(part, pairs))


print('| weights | style | worst pair | %s | content %s |' % (' | '.join(STYLE + CHECK), ' | '.join(CONTENT)))
print('|%s' % (' --- |' * (3 + len(STYLE + CHECK + CONTENT))))
for name in runs:
    total = lambda name, pair: sum(found[name, pair]['style/' + key] for key in STYLE)
    worst = max((total(name, pair) - total('real', pair)) / (total(first, pair) - total('real', pair)) for pair in pairs)
    row = [median(name, STYLE), worst] + [median(name, [key]) for key in STYLE + CHECK]
    row += [median(name, [key], 'content') for key in CONTENT]
    print('| %s | %s |' % (name, ' | '.join('%.2f' % value for value in row)))

if a.sheet:
    from PIL import Image
    tile = lambda path: Image.open(path).convert('RGB').resize((256, 192), Image.LANCZOS)
    names = [name for name in runs if name != 'real'] + ['real']
    sheet = Image.new('RGB', (256 * (2 + len(names)), 192 * len(pairs)))
    for row, pair in enumerate(pairs):
        paths = [picture(pair[0]), picture(pair[1])] + [result(name, pair) for name in names]
        for column, path in enumerate(paths):
            sheet.paste(tile(path), (256 * column, 192 * row))
    sheet.save(a.sheet, quality=92)
