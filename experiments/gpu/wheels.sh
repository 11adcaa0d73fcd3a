#!/usr/bin/env bash
# Collects what carlt needs beside a plain torch image as wheels, on a machine with a network, into wheels/ beside this file:
#     experiments/gpu/wheels.sh [the other machine's Python, 3.12 by default]
# Left out is what such an image has: torch, torchvision, lightning, torchmetrics, timm, and what these bring themselves.
set -euo pipefail
python="${1:-3.12}"
wheels="$(cd "$(dirname "$0")" && pwd)/wheels"
rm -rf "$wheels" && mkdir "$wheels"
# hydra's parser is published as source alone, and is the same for every Python.
python3 -m pip wheel --quiet --no-deps --wheel-dir "$wheels" 'antlr4-python3-runtime==4.9.3'
python3 -m pip download --quiet --only-binary=:all: --implementation cp --python-version "$python" \
	--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --find-links "$wheels" --dest "$wheels" \
	'hydra-core>=1.3.2' 'omegaconf>=2.3,<2.4' 'wandb>=0.20' 'rich>=13.7' 'matplotlib>=3.8' 'pyyaml>=6.0.1' 'pytest>=8.2'
rm -f "$wheels"/numpy-*.whl "$wheels"/pillow-*.whl
du -sh "$wheels"
