#!/usr/bin/env bash
# Everything that needs a hardware GPU, figures first, into one file.
#
#   benches/gpu_session.sh pack FOLDER     where there is a compiler: builds the program, the benches and the tests into FOLDER
#   benches/gpu_session.sh run FOLDER OUT  where there is the GPU: runs them from FOLDER, writes OUT/results.md and OUT/logs.tar.xz
#
# `run` needs no compiler: this repository's folders benches, assets and tests, FOLDER, and a Vulkan loader with the GPU's
# driver are enough. FOLDER holds one xz archive, so that it is small to carry; `run` unpacks it there once, and keeps there
# what tuning finds, so that a session may be cut up: SECTIONS="device tune kernels host peers tests" says what to do now.
# IMPASTO_SHARED names the test data; PYTHON a Python with PyTorch (python3 by default); ADAPTER a part of the adapter's name, if
# the first is not the one; DEADLINE the seconds that the whole may take (550); PEERS more options for benches/peers/run.py, such
# as "--configs article --sizes 224". A step that fails or runs past its limit is noted and does not end the rest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Tests without a GPU in them, or that need a compiler's folder or tools that are not there.
LEFT_OUT="allocations awkward cli colors errors forecast layering picture scales shaders studio validation weights"

pack() {
    local folder=$1 built name
    mkdir -p "$folder/bin" || exit 1
    built=$(cargo test --release --no-run --message-format=json --lib --bin impasto --tests && \
            cargo bench --no-run --bench iteration --message-format=json && \
            cargo build --release --bin impasto --message-format=json) || exit 1
    echo "$built" >"$folder/messages.json"
    python3 -c '
import json, shutil, subprocess, sys
folder, left_out = sys.argv[1], sys.argv[2:]
for message in map(json.loads, open(folder + "/messages.json")):
    binary = message.get("executable")
    if not binary: continue
    target, test = message["target"], message["profile"]["test"]
    name = target["name"]
    if "bin" in target["kind"]:
        if test: continue
    elif "bench" not in target["kind"]:
        if name in left_out: continue
        name = "test_" + name
    shutil.copy(binary, folder + "/bin/" + name)
    subprocess.run(["strip", folder + "/bin/" + name])
' "$folder" $LEFT_OUT || exit 1
    rm "$folder/messages.json"
    # The binaries share most of their code: one dictionary that spans them all.
    tar -C "$folder" -c bin | xz -T1 --x86 --lzma2=preset=6,dict=256MiB >"$folder/bin.tar.xz" && rm -r "$folder/bin"
    ls -lh "$folder"
}

run() {
    local folder
    folder=$(cd "$1" && pwd) || exit 1
    OUT=$2
    mkdir -p "$OUT" || exit 1
    OUT=$(cd "$OUT" && pwd)
    BIN=$folder/bin LOGS=$folder/logs
    mkdir -p "$LOGS"
    [ -d "$BIN" ] || tar -C "$folder" -xJf "$folder/bin.tar.xz" || exit 1
    export IMPASTO_BIN=$BIN/impasto IMPASTO_ITERATION=$BIN/iteration IMPASTO_TEST_GPU=required IMPASTO_OFFLINE=1
    export IMPASTO_CACHE=$folder/cache
    ADAPTER=${ADAPTER:-gpu}
    [ "$ADAPTER" = gpu ] || export IMPASTO_TEST_ADAPTER=$ADAPTER
    PYTHON=${PYTHON:-python3} DEADLINE=${DEADLINE:-550} FAILED=0
    RESULTS=$OUT/results.md
    : >"$RESULTS"
    for section in ${SECTIONS:-device tune kernels host peers tests}; do
        "section_$section"
        say "" "($section done after $SECONDS s)"
        tar -C "$folder" -cJf "$OUT/logs.tar.xz" logs
    done
    return $FAILED
}

say() { printf '%s\n' "$@" | tee -a "$RESULTS"; }

# step LIMIT NAME COMMAND: its output into the log NAME; says whether it failed.
step() {
    local limit=$1 name=$2 begin=$SECONDS left=$((DEADLINE - SECONDS))
    shift 2
    if [ $left -lt 5 ]; then
        say "NOT RUN (the time is up): $name"
        FAILED=1
        return 1
    fi
    timeout -k 10 $((limit < left ? limit : left)) "$@" >"$LOGS/$name.log" 2>&1
    local code=$?
    [ $code = 0 ] || { FAILED=1; say "FAILED ($code after $((SECONDS - begin)) s): $name; see logs/$name.log"; }
    return $code
}

# The log NAME, indented as Markdown has code.
show() { sed 's/^/    /' "$LOGS/$1.log" | tee -a "$RESULTS"; }

section_device() {
    say "# GPU session, $(date -u +%F)" "" "$("$IMPASTO_BIN" --version); $(uname -sm); $(nproc) cores" ""
    command -v nvidia-smi >/dev/null && say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)" ""
    # Limits, features, and the shapes of cooperative matrices.
    step 60 devices "$IMPASTO_BIN" devices && show devices
}

section_tests() {
    say "" "## Tests" ""
    local name
    for name in "$BIN"/test_*; do
        name=${name##*/test_}
        rm -f "$LOGS/test_$name.log"
        step 240 "test_$name" "$BIN/test_$name" --test-threads 4 || [ -f "$LOGS/test_$name.log" ] || continue
        say "- $name: $(grep -h '^test result' "$LOGS/test_$name.log" | tail -1)"
        grep -ho 'SKIPPED.*\|^test .*FAILED$' "$LOGS/test_$name.log" | sort | uniq | sed 's/^/  - /' | tee -a "$RESULTS"
    done
}

section_tune() {
    say "" "## Choice of kernels" ""
    step 120 tune "$IMPASTO_BIN" tune --device "$ADAPTER" && show tune
}

section_kernels() {
    say "" "## Profiles" ""
    local size precision name
    for size in 224 512 1024; do
        for precision in f32 f16; do
            name=article_${size}_$precision
            step 120 "profile_$name" "$IMPASTO_BIN" profile --preset article --size "$size" --precision "$precision" --device "$ADAPTER" \
                --repeat 20 --json "$LOGS/$name.json" --trace "$LOGS/$name.trace.json" --overwrite
            say "article at $size², $precision:" ""
            grep -h '^roofs\|^clock\|^one iteration\|^rows' "$LOGS/profile_$name.log" | sed 's/^/    /' | tee -a "$RESULTS"
            sed -n '/^by kernel/,/^by label/p' "$LOGS/profile_$name.log" | grep -v '^by label' | head -12 | sed 's/^/    /' | tee -a "$RESULTS"
            say ""
        done
    done
    # Convolutions from 256 channels, at the sizes that they have in a picture of 512² and, for the ceiling, at 512² itself.
    say "Convolutions, every variant (GFLOP/s of a direct convolution; the roof is the multiply-add that was measured):" ""
    for shape in 128x128x256x256 64x64x512x512 512x512x256x256 224x224x64x64 512x512x64x64; do
        for kernel in conv3x3 conv3x3_backward; do
            step 120 "$kernel-$shape" "$IMPASTO_BIN" profile --kernel "$kernel" --shape "$shape" --device "$ADAPTER" && show "$kernel-$shape"
        done
    done
}

section_host() {
    say "" "## The host's part of an iteration" "" "| job | iteration, ms | host, ms | host / iteration |" "| --- | --- | --- | --- |"
    local config
    for config in article classic; do
        step 120 "host_$config" "$IMPASTO_ITERATION" --config "$config" --size 224 --iters 500 --device "$ADAPTER" || continue
        say "$("$PYTHON" -c '
import json, sys
r = json.loads(sys.stdin.read().strip().splitlines()[-1])
whole, host = (1e3 * r[k] for k in ("seconds_per_iteration", "host_seconds_per_iteration"))
print("| %s at 224², %d launches | %.4f | %.4f | %.1f %% |" % (r["config"], r["launches_per_iteration"], whole, host, 100 * host / whole))
' <"$LOGS/host_$config.log")"
    done
}

section_peers() {
    say "" "## Beside PyTorch" ""
    "$PYTHON" -c 'import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())' 2>&1 | tail -1 | tee -a "$RESULTS"
    # Row by row into its own file, so that what was measured stays when the time is up.
    # shellcheck disable=SC2086
    step 540 peers "$PYTHON" benches/peers/run.py --device gpu --rounds "${ROUNDS:-3}" --output "$LOGS/peers.md" ${PEERS:-}
    [ ! -f "$LOGS/peers.md" ] || tee -a "$RESULTS" <"$LOGS/peers.md"
}

case ${1:-} in
pack) [ $# = 2 ] && pack "$2" ;;
run) [ $# = 3 ] && run "$2" "$3" ;;
*) sed -n '2,14p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
