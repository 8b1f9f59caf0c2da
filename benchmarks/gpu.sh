#!/usr/bin/env bash
# All figures of one GPU: ViT-S/16 and ViT-B/16, batch 64, in fp16 and bf16, plain and compiled.
# Usage: bash benchmarks/gpu.sh OUT [CLONE of the published repository]
set -euo pipefail
out=${1:?Usage: bash benchmarks/gpu.sh OUT [CLONE]}
reference=(${2:+--reference "$2"})
mkdir -p "$out"
for arch in small base; do
    for dtype in float16 bfloat16; do
        for option in '' --compile; do
            name=step_${arch}_${dtype}${option#--}
            python -m benchmarks.step "${reference[@]}" --arch "$arch" --batch-size 64 --steps 20 \
                --dtype "$dtype" --profile --pack-crops --json "$out/$name.json" $option \
                | tee "$out/$name.txt"
        done
    done
done
python -m benchmarks.evaluation "${reference[@]}" --share 1 --json "$out/evaluation.json"
python -m benchmarks.scaling --processes 1 "$(nvidia-smi -L | wc -l)" --batch-size 64 --steps 20 \
    --dtype float16 --json "$out/scaling.json"
