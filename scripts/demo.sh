#!/usr/bin/env bash
# Studio clips -> shards -> report -> a few training steps -> a sampled video, all below demo/.
# Run again it finds what is done; STEPS=200 trains the whole smoke recipe.
set -euo pipefail
cd "$(dirname "$0")/.."
HANDLOOM="${VENV:-.venv}/bin/handloom"
DEMO="${DEMO:-demo}"
STEPS="${STEPS:-40}"
SECONDS=0

echo "demo 1/4: studio clips with known truth"
"$HANDLOOM" studio --out "$DEMO/studio"

echo "demo 2/4: curation, raw video to shards"
"$HANDLOOM" curate "$DEMO/studio/videos" --out "$DEMO/root"

echo "demo 3/4: $STEPS training steps of the smoke recipe"
if [ ! -d "$DEMO/train-$STEPS" ]; then
  "$HANDLOOM" train "$DEMO/root" --recipe smoke --out "$DEMO/train-$STEPS" \
    --set "steps_full=$((STEPS * 7 / 10))" --set "steps_asymmetric=$((STEPS - STEPS * 7 / 10))"
fi

echo "demo 4/4: a sampled video, without the structure branch"
if [ ! -f "$DEMO/sample-$STEPS.mp4" ]; then
  "$HANDLOOM" sample "$DEMO/train-$STEPS" --root "$DEMO/root" --out "$DEMO/sample-$STEPS.mp4"
fi

echo "demo: done in $SECONDS s, $(du -sh "$DEMO" | cut -f1) below $DEMO/. Look at:"
ls -d "$DEMO"/studio/videos/*.mp4 "$DEMO"/root/runs/*/report/index.html \
  "$DEMO/train-$STEPS/curves.svg" "$DEMO/sample-$STEPS.mp4"
