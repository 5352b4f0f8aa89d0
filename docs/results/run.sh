#!/usr/bin/env bash
# The experiments of docs/results: bash docs/results/run.sh NAME [more options of the command].
# Texts: corpus/*.txt to train on; held/ with austen-persuasion, wells-the-time-machine, carroll-through-the-looking-glass, mines (.txt).
set -euo pipefail
name=${1:?which experiment? $(grep -oE '^  [a-z0-9-]+\)' "$0" | tr -d ' )' | tr '\n' ' ')}
shift
mamba() { node "$(dirname "$0")/../../dist/cli/main.js" "$@"; }

copying() { # MODEL LENGTH STEPS [more]
  local model=$1 length=$2 steps=$3
  shift 3
  mamba task run selective-copying --model "$model" --length "$length" --steps "$steps" --batch 64 --lr 0.002 --schedule cosine \
    --eval-every 250 --stop-at 0 --device webgpu --out "runs/copying-$length-$model" "$@"
}
heads() { # NAME MODEL [more]
  local out=$1 model=$2
  shift 2
  mamba task run induction-heads --model "$model" --length 256 --stop-at 0 --device webgpu --out "runs/heads-$out" "$@"
}
text() { # PARAMETERS TOKENS [more]
  local parameters=$1 tokens=$2
  shift 2
  mamba compare --data corpus --held-out held/*.txt --parameters "$parameters" --tokens "$tokens" --length 512 --batch 64 \
    --architectures mamba,transformer,s4d,lstm --only training,quality,extrapolation --max-length 8192 \
    --precision mixed --device webgpu --out "reports/text-$parameters" "$@"
}

case $name in
  # what stands in README.md
  copying-256) for model in mamba transformer s4d lstm; do copying $model 256 6000 "$@"; done ;;
  copying-4096-mamba) copying mamba 4096 6000 --curriculum 256,1024,4096 "$@" ;;
  copying-4096-h3-s6) copying h3-s6 4096 4000 --curriculum 256,1024,4096 "$@" ;;
  copying-4096-others) for model in s4d lstm h3; do copying $model 4096 4000 "$@"; done ;;
  heads-mamba) heads mamba mamba --batch 8 --lr 0.004 --steps 65000 --seed 1 "$@" ;;
  heads-transformer)
    heads transformer transformer --d-model 128 --model-option headDim=16 --curriculum 16,32,64,128 --bar 0.9 --batch 16 --lr 0.0005 \
      --steps 2300 --lengths 64,128,256,512,1024,2048,4096,8192,16384 "$@"
    ;;
  heads-others) for model in lstm s4d; do heads $model $model --batch 64 --lr 0.001 --steps 11000 "$@"; done ;;
  text-1m) text 1M 20M "$@" ;;
  text-3m) text 3M 30M "$@" ;;
  text-10m) text 10M 50M "$@" ;;
  speed)
    mamba compare --data held --parameters 130M --architectures mamba,transformer --only speed --max-length 1048576 --max-batch 1024 \
      --point-seconds 45 --batch 8 --precision mixed --device webgpu --out reports/speed "$@"
    ;;
  default-model)
    mamba train --data corpus --eval-data held/austen-persuasion.txt --d-model 384 --layers 12 --batch 64 --length 1024 --lr 0.003 \
      --warmup 200 --steps 5150 --carry-state --precision mixed --device webgpu --seed 1 --out runs/default "$@"
    ;;
  # what is owed: fair learning rates, and the sweep to its end
  tuned-1m) text 1M 20M --tune "$@" ;;
  tuned-3m) text 3M 30M --tune "$@" ;;
  tuned-10m) text 10M 50M --tune "$@" ;;
  sweep)
    mamba compare --data corpus --held-out held/*.txt --sweep 0.25M,0.5M,1M,2M,4M --tune --length 512 --batch 32 --precision mixed \
      --device webgpu --out reports/sweep "$@"
    ;;
  copying-4096-transformer) copying transformer 4096 4000 "$@" ;;
  *) bash "$0" ;;
esac
