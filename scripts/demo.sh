#!/bin/sh
# The main job in about two minutes: pictures from the shipped model, then a model of our own, and a page about it.
set -e
OUT=runs/demo-$(date +%Y%m%d-%H%M%S)
echo "== 1/3  Pictures from the model that ships with sfumato (ddpm/emoji32)"
"$BIN/sfumato" sample ddpm/emoji32 -n 36 --out "$OUT/shipped"
echo
echo "== 2/3  Train DDPM on 8x8 digits for one minute"
"$BIN/sfumato" train ddpm/digits --train.minutes 1 --out "$OUT/digits"
echo
echo "== 3/3  Pictures from the model just trained"
"$BIN/sfumato" sample "$OUT/digits" -n 64
echo
echo "Open the report:  $OUT/digits/report.html"
echo "Then, for example: source $BIN/activate; sfumato learn"
