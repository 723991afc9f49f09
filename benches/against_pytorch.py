#!/usr/bin/env python3
"""Seconds per iteration of impasto's CPU engine against PyTorch on the same machine, alternating in one run.

    python3 benches/against_pytorch.py [--rounds 5] [--threads 2] [--jobs article:224,classic:256] [--peer torch_style.py]

Needs PyTorch in the Python that runs it, and the peer script (IMPASTO_SHARED/peers/torch_style.py by default). Prints the
medians and their ratio as Markdown. The faster of PyTorch's two layouts counts. Run it on a quiet machine.
"""
import argparse, json, os, statistics, subprocess, sys

p = argparse.ArgumentParser()
p.add_argument('--rounds', type=int, default=5)
p.add_argument('--iters', type=int, default=20)
p.add_argument('--threads', type=int, default=os.cpu_count())
p.add_argument('--jobs', default='article:224,classic:256')
p.add_argument('--peer', default=os.path.join(os.environ.get('IMPASTO_SHARED', '../shared'), 'peers/torch_style.py'))
a = p.parse_args()

build = subprocess.run(['cargo', 'bench', '--bench', 'iteration', '--no-run', '--message-format=json'], check=True, capture_output=True, text=True)
bench = [m['executable'] for m in map(json.loads, build.stdout.splitlines()) if m.get('executable') and m['target']['name'] == 'iteration'][0]
environment = dict(os.environ, RAYON_NUM_THREADS=str(a.threads))

def ours(config, size):
    out = subprocess.run([bench, '--config', config, '--size', size, '--iters', str(a.iters)], check=True, capture_output=True, text=True, env=environment)
    return json.loads(out.stdout)['seconds_per_iteration']

def peer(config, size, *more):
    command = [sys.executable, a.peer, '--config', config, '--size', size, '--iters', str(a.iters), '--threads', str(a.threads), '--json', *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)['seconds_per_iteration']

print('| job | impasto, s | PyTorch, s | PyTorch channels_last, s | ratio to the faster |\n| --- | --- | --- | --- | --- |')
for job in a.jobs.split(','):
    config, size = job.split(':')
    columns = [[], [], []]
    for _ in range(a.rounds):
        for column, run in zip(columns, (lambda: ours(config, size), lambda: peer(config, size), lambda: peer(config, size, '--channels-last'))):
            column.append(run())
    mine, plain, last = (statistics.median(c) for c in columns)
    spread = ' / '.join('%.3f-%.3f' % (min(c), max(c)) for c in columns)
    print('| %s at %s², float32, %d threads | %.4f | %.4f | %.4f | %.2f | (ranges %s)' % (config, size, a.threads, mine, plain, last, mine / min(plain, last), spread), flush=True)
