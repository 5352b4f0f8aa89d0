#!/usr/bin/env bash
# The experiments of docs/results: bash docs/results/run.sh NAME [more options of the command].
# Texts: corpus/*.txt to train on; held/ with austen-persuasion, wells-the-time-machine, carroll-through-the-looking-glass, mines (.txt).
set -euo pipefail
name=${1:?which experiment? $(grep -oE '^  [a-z0-9.| -]+\)' "$0" | tr -d ')|' | tr '\n' ' ')}
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
text() { # NAME PARAMETERS TOKENS BATCH [more]
  local out=$1 parameters=$2 tokens=$3 batch=$4
  shift 4
  mamba compare --data corpus --held-out held/*.txt --parameters "$parameters" --tokens "$tokens" --length 512 --batch "$batch" \
    --precision mixed --device webgpu --out "reports/$out" "$@"
}
four() { # NAME PARAMETERS TOKENS BATCH [more]
  text "$@" --architectures mamba,transformer,s4d,lstm --only training,quality,extrapolation --max-length 8192 \
    --tune --tune-factors 0.5,1,2
}
# The Transformer's rates once more, each for the whole of the training.
transformer() { # PARAMETERS TOKENS FACTORS [more]
  local parameters=$1 tokens=$2 factors=$3
  shift 3
  text "text-${parameters,,}-transformer" "$parameters" "$tokens" 64 --architectures transformer --only training,quality \
    --tune --tune-share 1 --tune-factors "$factors" "$@"
}
speed() { # NAME [more]
  local out=$1
  shift
  mamba compare --data held --parameters 130M --architectures mamba,transformer --max-batch 1024 --batch 8 --precision mixed \
    --device webgpu --out "reports/$out" "$@"
}
book() { # NAME LEARNING-RATE [more]
  local out=$1 rate=$2
  shift 2
  # The stories stand in corpus too: named again, they are read twice as often.
  mamba train --data corpus corpus/czhou-test.txt corpus/czhou-val.txt corpus/toyrnn.txt --eval-data held/austen-persuasion.txt \
    --batch 32 --length 2048 --lr "$rate" --weight-decay 0.5 --warmup 200 --steps 9000 --precision mixed --device webgpu --seed 1 \
    --out "runs/$out" "$@"
}

case $name in
  copying-256) for model in mamba transformer s4d lstm; do copying $model 256 6000 "$@"; done ;;
  copying-4096-mamba) copying mamba 4096 6000 --curriculum 256,1024,4096 "$@" ;;
  copying-4096-h3-s6) copying h3-s6 4096 4000 --curriculum 256,1024,4096 "$@" ;;
  copying-4096-others) for model in lstm h3; do copying $model 4096 4000 "$@"; done ;;
  copying-4096-s4d) copying s4d 4096 6000 --lengths 4096 "$@" ;;
  copying-4096-transformer)
    copying transformer 4096 6000 --curriculum 256,1024,4096 --precision mixed --lengths 4096 "$@"
    ;;
  heads-mamba) heads mamba mamba --batch 8 --lr 0.004 --steps 65000 --seed 1 "$@" ;;
  heads-transformer)
    heads transformer transformer --d-model 128 --model-option headDim=16 --curriculum 16,32,64,128 --bar 0.9 --batch 16 --lr 0.0005 \
      --steps 2300 --lengths 64,128,256,512,1024,2048,4096,8192,16384 "$@"
    ;;
  heads-others) for model in lstm s4d; do heads $model $model --batch 64 --lr 0.001 --steps 11000 "$@"; done ;;
  mqar)
    for model in mamba transformer s4d lstm; do
      mamba task run mqar --vocab 256 --pairs 8 --model $model --length 64 --steps 30000 --eval-every 250 --max-minutes 3.5 \
        --lengths 64,128,256,512 --device webgpu --out "runs/mqar-$model" "$@"
    done
    ;;
  parity | modular-arithmetic)
    for model in mamba transformer s4d lstm; do
      mamba task run "$name" --model $model --length 64 --steps 6000 --lengths 64,128,256,512,1024 --device webgpu \
        --out "runs/$name-$model" "$@"
    done
    ;;
  text-0.3m) four text-0.3m 0.3M 3M 8 "$@" ;;
  text-1m) four text-1m 1M 20M 64 "$@" ;;
  text-3m) four text-3m 3M 30M 64 "$@" ;;
  text-10m) four text-10m 10M 50M 64 "$@" ;;
  text-1m-transformer) transformer 1M 20M 0.5,1,2,4 "$@" ;;
  text-3m-transformer) transformer 3M 30M 1,2,4 "$@" ;;
  text-10m-transformer) transformer 10M 50M 1,2,4 "$@" ;;
  ablation-1m)
    text ablation-1m 1M 20M 64 --only training,quality \
      --architectures mamba,mamba-none,mamba-b,mamba-c,mamba-dt,mamba-s4d,h3,h3-s6,mamba-mlp,hybrid,gru "$@"
    ;;
  sweep)
    mamba compare --data corpus --held-out held/*.txt --sweep 0.25M,0.5M,1M,2M,4M --length 512 --batch 32 --precision mixed \
      --device webgpu --out reports/sweep "$@"
    ;;
  speed) speed speed --only prefill,batch,training-speed --max-length 1048576 --point-seconds 20 "$@" ;;
  decode) speed decode --only batch,decode,training-speed --max-length 65536 --point-seconds 30 "$@" ;;
  speed-plain-attention) speed speed-plain-attention --only speed --max-length 1048576 --point-seconds 45 "$@" ;;
  default-model) book default 0.006 --d-model 384 --layers 12 "$@" ;;
  default-transformer) book default-transformer 0.003 --arch transformer --d-model 384 --layers 6 --head-dim 64 --d-mlp 1152 "$@" ;;
  *) bash "$0" ;;
esac
