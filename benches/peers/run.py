#!/usr/bin/env python3
"""impasto beside PyTorch on the same machine, alternating in one run. Prints Markdown.

    python3 benches/peers/run.py [--device cpu|gpu] [--rounds 3] [--configs article,classic] [--sizes 224,512,1024]

Every row names PyTorch's mode: strict (float32), tf32 (what it does unasked on NVIDIA), f16 (autocast); eager, or graph (the
iteration captured as a CUDA graph). Of channels_last and the usual layout the faster counts. impasto runs in every precision
that its device has. Figures are medians over the rounds of the median of 5 blocks of iterations; a ratio below 1 means that
impasto is faster. The last table is the whole job: article at 224², 500 iterations, from the start of the process to the end;
impasto reads two pictures and saves one, PyTorch does neither, which favours it.

Needs PyTorch in the Python that runs it, and the peer script (IMPASTO_SHARED/peers/torch_style.py by default). Binaries are
built unless IMPASTO_BIN (the program) and IMPASTO_ITERATION (the bench `iteration`) name them. PyTorch stays in one process,
so that its start is not waited for each time. Run it on a quiet machine.
"""
import argparse, contextlib, datetime, io, json, os, platform, runpy, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
# The program's options for the bench's ways, of those that the whole job is timed in.
OPTIONS = {'f32': [], 'f16': ['--precision', 'f16']}
PICTURES = [os.path.join(HERE, '../../assets', name) for name in ('lake.png', 'night.png')]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', choices=['cpu', 'gpu'], default='cpu')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--configs', default='article,classic')
    p.add_argument('--sizes', default='224,512,1024')
    p.add_argument('--iters', type=int, help='iterations of each measurement; by the size if not given')
    p.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument('--job-rounds', type=int, default=2, help='rounds of the whole job; 0 leaves it out')
    p.add_argument('--peer', default=os.path.join(os.environ.get('IMPASTO_SHARED', '../shared'), 'peers/torch_style.py'))
    p.add_argument('--output', help='file for the tables, beside printing them')
    p.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    return p.parse_args()


def work(peer):
    """One measurement of the peer for each line of arguments, in this process. Answers with a line of JSON."""
    import torch
    for line in sys.stdin:
        text = io.StringIO()
        sys.argv = [peer, *line.split(), '--json']
        try:
            with contextlib.redirect_stdout(text):
                runpy.run_path(peer, run_name='__main__')
            print(text.getvalue().strip().splitlines()[-1], flush=True)
        except (Exception, SystemExit) as error:
            print(json.dumps({'error': '%s: %s' % (type(error).__name__, ' '.join(str(error).split())[:400])}), flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


class Peer:
    def __init__(self, script, environment):
        command = [sys.executable, os.path.abspath(__file__), '--worker', '--peer', script]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def measure(self, *options):
        self.process.stdin.write(' '.join(map(str, options)) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit('the PyTorch process has ended')
        return json.loads(answer)


def built(name, variable, *command):
    """A binary that the environment names, or else cargo builds."""
    if os.environ.get(variable):
        return os.environ[variable]
    build = subprocess.run(['cargo', *command, '--message-format=json'], check=True, capture_output=True, text=True)
    messages = map(json.loads, build.stdout.splitlines())
    return [m['executable'] for m in messages if m.get('executable') and m['target']['name'] == name][-1]


def text_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ''


def processor():
    for line in text_of('lscpu').splitlines():
        if line.startswith('Model name:'):
            return line.split(':', 1)[1].strip()
    return platform.processor() or 'unknown'


def iterations(device, size, wish):
    if wish:
        return wish
    pixels = (size / 224) ** 2
    return max(5, int(20 / pixels)) if device == 'cpu' else max(25, int(200 / pixels))


def seconds(values):
    """Median with its range."""
    middle = statistics.median(values)
    return '%s (%s to %s)' % tuple('%.3g' % value for value in (middle, min(values), max(values)))


def main():
    a = arguments()
    if a.worker:
        return work(a.peer)
    lines = []

    def say(line=''):
        print(line, flush=True)
        lines.append(line)
        if a.output:
            with open(a.output, 'w') as file:
                file.write('\n'.join(lines) + '\n')

    bench = built('iteration', 'IMPASTO_ITERATION', 'bench', '--bench', 'iteration', '--no-run')
    program = built('impasto', 'IMPASTO_BIN', 'build', '--release', '--bin', 'impasto')
    environment = dict(os.environ, RAYON_NUM_THREADS=str(a.threads), OMP_NUM_THREADS=str(a.threads))

    def ours(*options):
        run = subprocess.run([bench, *map(str, options)], capture_output=True, text=True, env=environment)
        if run.returncode:
            return {'error': ' '.join(run.stderr.split())[-400:] or 'failed'}
        return json.loads(run.stdout.strip().splitlines()[-1])

    if a.device == 'gpu':
        # Otherwise the first run of the program would do it, and the bench not at all.
        subprocess.run([program, 'tune', '--device', 'gpu', '--seconds', '5'], capture_output=True, env=environment)
    listed = subprocess.run([bench, '--device', a.device, '--ways'], capture_output=True, text=True, env=environment)
    ways = listed.stdout.split() if listed.returncode == 0 else ['f32']
    peer = Peer(a.peer, environment)
    torch_device = 'cuda' if a.device == 'gpu' else 'cpu'
    # On a CPU there is one mode that means anything: autocast there is bfloat16, and there are no graphs.
    modes = [(mode, graph) for mode in (['strict'] if a.device == 'cpu' else ['strict', 'tf32', 'f16'])
             for graph in ([False] if a.device == 'cpu' else [False, True])]
    first = peer.measure('--config', 'article', '--size', 32, '--iters', 5, '--device', torch_device, '--threads', a.threads)
    if 'error' in first:
        sys.exit('PyTorch: %s' % first['error'])
    device = ours('--config', 'article', '--size', 32, '--iters', 5, '--device', a.device).get('device', 'unknown')

    say('%s, %s; %s, %d threads.' % (datetime.date.today().isoformat(), text_of(program, '--version'), processor(), a.threads))
    say('impasto: %s. PyTorch: %s on %s.' % (device, first['peer'], first['device']))
    driver = text_of('nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader')
    if driver:
        say('Driver: %s.' % driver)
    say('Seconds per iteration, medians of %d rounds (fastest to slowest); ratio below 1: impasto is faster.' % a.rounds)
    say()
    head = ['job', 'PyTorch mode', 'PyTorch, s', 'layout']
    for way in ways:
        head += ['impasto %s, s' % way, 'ratio']
    say('| %s |' % ' | '.join(head))
    say('| %s |' % ' | '.join(['---'] * len(head)))
    for config in a.configs.split(','):
        for size in map(int, a.sizes.split(',')):
            count = iterations(a.device, size, a.iters)
            common = ['--config', config, '--size', size, '--iters', count]
            mine = {way: [] for way in ways}
            theirs = {(mode, graph, last): [] for mode, graph in modes for last in (False, True)}
            why = {}
            for _ in range(a.rounds):
                for way in ways:
                    extra = [] if way == 'f32' and len(ways) == 1 else ['--way', way]
                    answer = ours(*common, '--device', a.device, *extra)
                    mine[way].append(answer['seconds_per_iteration']) if 'error' not in answer else why.update({way: answer['error']})
                for (mode, graph, last), column in theirs.items():
                    options = ['--device', torch_device, '--mode', mode, '--threads', a.threads]
                    answer = peer.measure(*common, *options, *['--graph'] * graph, *['--channels-last'] * last)
                    if 'error' in answer:
                        why[(mode, graph, last)] = answer['error']
                    else:
                        column.append(answer['seconds_per_iteration'])
            for mode, graph in modes:
                both = [(theirs[(mode, graph, last)], last) for last in (False, True) if theirs[(mode, graph, last)]]
                row = ['%s at %d²' % (config, size), '%s, %s' % (mode, 'graph' if graph else 'eager')]
                if both:
                    best, last = min(both, key=lambda both: statistics.median(both[0]))
                    row += [seconds(best), 'channels_last' if last else 'usual']
                else:
                    best, row = None, row + ['failed', '']
                for way in ways:
                    ratio = '%.2f' % (statistics.median(mine[way]) / statistics.median(best)) if mine[way] and best else ''
                    row += [seconds(mine[way]) if mine[way] else 'failed', ratio]
                say('| %s |' % ' | '.join(row))
            for what, error in why.items():
                print('%s: %s' % (what, error), file=sys.stderr)
    peer.process.stdin.close()
    peer.process.wait()
    if a.job_rounds:
        whole_job(a, program, environment, torch_device, ways, say)


def whole_job(a, program, environment, torch_device, ways, say):
    def timed(command):
        begin = time.perf_counter()
        run = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
        return None if run.returncode else time.perf_counter() - begin

    def stylize(way):
        with tempfile.TemporaryDirectory() as folder:
            extra = OPTIONS[way]
            return timed([program, 'stylize', PICTURES[0], '-s', PICTURES[1], '-o', os.path.join(folder, 'out.png'), '--preset',
                          'article', '-n', 500, '--save-every', 0, '--weights', 'builtin', '--device', a.device, '-q', *extra])

    def torch(mode, *more):
        return timed([sys.executable, a.peer, '--config', 'article', '--size', 224, '--iters', 500, '--threads', a.threads,
                      '--device', torch_device, '--mode', mode, '--json', *more])

    mine = {'impasto ' + way: (lambda way=way: stylize(way)) for way in ways if way in OPTIONS}
    theirs = {}
    for mode in ['strict'] if a.device == 'cpu' else ['strict', 'tf32', 'f16']:
        for graph in [[]] if a.device == 'cpu' else [[], ['--graph']]:
            for last in [[], ['--channels-last']]:
                name = 'PyTorch %s, %s%s' % (mode, 'graph' if graph else 'eager', ', channels_last' if last else '')
                theirs[name] = lambda mode=mode, more=graph + last: torch(mode, *more)
    taken = {name: [] for name in [*mine, *theirs]}
    for _ in range(a.job_rounds):
        for name, run in [*mine.items(), *theirs.items()]:
            taken[name].append(run())
    good = {name: [value for value in values if value is not None] for name, values in taken.items()}
    say()
    say('Whole job, article at 224², 500 iterations, start to end of the process; seconds, and ratios to it:')
    say()
    head = ['program', 'seconds', *('%s / this' % name for name in mine)]
    say('| %s |\n| %s |' % (' | '.join(head), ' | '.join(['---'] * len(head))))
    for name, values in good.items():
        ratios = ['%.2f' % (statistics.median(good[own]) / statistics.median(values)) if good[own] and values else '' for own in mine]
        say('| %s |' % ' | '.join([name, seconds(values) if values else 'failed', *ratios]))


if __name__ == '__main__':
    main()
