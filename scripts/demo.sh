#!/usr/bin/env bash
# Studio clips -> shards -> report -> a film of one RGB / HOI pair -> a few training steps -> a sampled video, all
# below demo/. Run again it finds what is done; STEPS=200 trains the whole smoke recipe.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV="${VENV:-.venv}"
HANDLOOM="$VENV/bin/handloom"
DEMO="${DEMO:-demo}"
STEPS="${STEPS:-40}"
SECONDS=0

echo "demo 1/5: studio clips with known truth"
"$HANDLOOM" studio --out "$DEMO/studio"

echo "demo 2/5: curation, raw video to shards"
"$HANDLOOM" curate "$DEMO/studio/videos" --out "$DEMO/root"

echo "demo 3/5: one kept clip as a film: RGB, boxes, product mask and HOI structure side by side"
if [ ! -f "$DEMO/pair.mp4" ]; then
  CLIP=$("$HANDLOOM" report "$DEMO/root" --json | "$VENV/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["kept_clip_ids"][0])')
  "$HANDLOOM" show "$DEMO/root" "$CLIP" --out "$DEMO/pair.mp4"
fi

echo "demo 4/5: $STEPS training steps of the smoke recipe"
if [ ! -d "$DEMO/train-$STEPS" ]; then
  "$HANDLOOM" train "$DEMO/root" --recipe smoke --out "$DEMO/train-$STEPS" \
    --set "steps_full=$((STEPS * 7 / 10))" --set "steps_asymmetric=$((STEPS - STEPS * 7 / 10))"
fi

echo "demo 5/5: a video sampled from that checkpoint, without the structure branch"
if [ ! -f "$DEMO/sample-$STEPS-noise.mp4" ]; then
  "$HANDLOOM" sample "$DEMO/train-$STEPS" --root "$DEMO/root" --out "$DEMO/sample-$STEPS-noise.mp4"
fi

cat <<END
demo: done in $SECONDS s, $(du -sh "$DEMO" | cut -f1) below $DEMO/. Look at:
  $(ls -d "$DEMO"/root/runs/*/report/index.html | tail -n 1)
      the report: what was kept, what was dropped and why
  $DEMO/pair.mp4
      what the shards hold of one clip: video, boxes, product mask, HOI structure
  $DEMO/train-$STEPS/curves.svg
      the losses of $STEPS steps
  $DEMO/sample-$STEPS-noise.mp4
      coloured noise, and meant so: $STEPS steps of a 3 M parameter network teach it nothing that could be seen. It
      shows that shards, trainer, checkpoint and sampler fit together; pictures need the real network and days on GPUs.
To have handloom on your PATH:  source $VENV/bin/activate
END
