#!/usr/bin/env bash
# Studio clips -> shards -> report -> a few training steps -> a sampled video, all below demo/.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN="${VENV:-.venv}/bin"
DEMO="${DEMO:-demo}"
STEPS="${STEPS:-30}"
mkdir -p "$DEMO"

echo "demo 1/4: studio clips with known truth"
[ -f "$DEMO/studio/.done" ] || { "$BIN/handloom" studio --out "$DEMO/studio" && touch "$DEMO/studio/.done"; }

echo "demo 2/4: curation, raw video to shards"
"$BIN/handloom" curate "$DEMO/studio/videos" --out "$DEMO/root"

echo "demo 3/4: $STEPS training steps of the smoke recipe"
"$BIN/handloom" train "$DEMO/root" --recipe smoke --set "num_steps=$STEPS" --out "$DEMO/train"

echo "demo 4/4: a sampled video"
"$BIN/handloom" sample "$DEMO/train" --root "$DEMO/root" --out "$DEMO/sample-$(date +%s).mp4"

echo "demo: done. Look at:"
ls -d "$DEMO"/root/runs/*/report/index.html "$DEMO"/sample-*.mp4
