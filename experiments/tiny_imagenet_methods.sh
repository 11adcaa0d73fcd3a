#!/usr/bin/env bash
# The runs of tiny_imagenet_methods.md and best.md: experiments/tiny_imagenet_methods.sh <folder with tiny-imagenet-200> <runs> [seeds]
# One after another on one core; the same command again goes on where it stopped.
set -euo pipefail
images=${1:?folder that holds tiny-imagenet-200} runs=${2:?folder for the runs} seeds=${3:-0 1}
export OMP_NUM_THREADS=1
common=(data=tiny_imagenet_lt "data.root=$images" data.num_classes=100 data.image_size=32 model=resnet8
    trainer.max_epochs=20 recipe.view.padding=4 channels_last=true trainer.precision=bf16-mixed)
car=(reg=car_held) small_car=(reg=car_held reg.weight=0.1)

train() { # train <name> <overrides>: one run in $runs/<name>_seed<seed>, unless it is finished
    local folder=$runs/$1_seed$seed
    [ -e "$folder/result.json" ] && return
    if [ -e "$folder/checkpoints/last.ckpt" ]; then
        python -m carlt.train "resume=$folder"
    else
        rm -rf "$folder"
        python -m carlt.train "${@:2}" "hydra.run.dir=$folder"
    fi
}
first() { train "$1" "${common[@]}" "seed=$seed" "${@:2}"; }
second() { # second <stage> <name of the first stage's run> [overrides]
    train "${2}_$1" "stage=$1" "init_run=$runs/$2_seed$seed" reg=none
    train "${2}_$1_car" "stage=$1" "init_run=$runs/$2_seed$seed" "${car[@]}"
}

for seed in $seeds; do
    first ce reg=none
    first mixup aug=mixup reg=none
    first decay optim.weight_decay=2e-3 reg=none
    for stage in crt lws gml_nolb; do second $stage ce; done
    second mislas mixup
    for stage in wb los; do second $stage decay; done
    first ride loss=ride reg=none
    first ride_car loss=ride "${small_car[@]}"
    first cb_ce loss=cb_ce reg=none
    first cb_ce_car loss=cb_ce "${car[@]}"
    train ride_crt stage=crt "init_run=$runs/ride_seed$seed" reg=none
    train ride_crt_car stage=crt "init_run=$runs/ride_seed$seed" "${small_car[@]}"
    train ride_car_crt_car stage=crt "init_run=$runs/ride_car_seed$seed" "${small_car[@]}"
done
# One network with as many weights as RIDE's three experts: 150 thousand at width 22, 140 thousand of the experts.
for seed in $seeds; do
    first wide_ldam_drw model.width=22 loss=ldam_drw reg=none
    first wide_ldam_drw_car model.width=22 loss=ldam_drw "${small_car[@]}"
    first wide_ce model.width=22 reg=none
    second crt wide_ce
    first wide_bs model.width=22 loss=balanced_softmax reg=none
    first wide_bs_car model.width=22 loss=balanced_softmax "${car[@]}"
done
# CAR after training, of every network that was trained without it.
for folder in "$runs"/*_seed?; do
    case $folder in *_car*) continue ;; esac
    [ -e "$folder/posthoc/car_1/result.json" ] || python -m carlt.evaluate "run=$folder" posthoc=car tau=1
done
