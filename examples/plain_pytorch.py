"""CAR in a training loop of plain PyTorch, with mixed precision, gradient accumulation and torch.compile.

    python examples/plain_pytorch.py --amp bfloat16 --accumulate 2 --compile inductor

Needs carlt (torch alone) and scikit-learn. The lines with CAR are numbered.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from digits import class_accuracy, long_tailed_digits, small_network
from torch.nn import functional as F
from torch.utils.data import DataLoader

from carlt import CAR


def train(
    epochs: int = 30,
    batch_size: int = 32,
    amp: str = "float32",
    accumulate: int = 1,
    compile: str | None = None,
    weight: float = 0.5,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Train with cross-entropy and CAR; returns the network, CAR and the test accuracy of each class.

    Args:
        amp: the precision of autocast: ``float32``, ``bfloat16``, or ``float16`` on a GPU.
        accumulate: batches per step of the optimizer.
        compile: the backend of torch.compile, e.g. ``inductor``; None compiles nothing.
        weight: of CAR.
        checkpoint: where to save the weights.
    """
    torch.manual_seed(0)
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, amp)
    train_set, test_set, class_counts = long_tailed_digits()
    loader = DataLoader(train_set, batch_size, shuffle=True)
    network = small_network().to(device)
    if compile:  # the network alone: CAR computes outside of the graph
        network.compile(backend=compile)
    car = CAR(class_counts, weight=weight).to(device)  # 1: it has a state, a running confusion matrix
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    for _ in range(epochs):
        network.train()
        for step, (images, labels) in enumerate(loader, start=1):
            images, labels = images.to(device), labels.to(device)
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                logits = network(images)
                loss = F.cross_entropy(logits, labels)
                loss = loss + car(logits, labels)  # 2: in float32 by itself, in training steps alone
            group = min(accumulate, len(loader) - (step - 1) // accumulate * accumulate)  # the last one may be smaller
            scaler.scale(loss / group).backward()
            if step % accumulate == 0 or step == len(loader):
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    if checkpoint is not None:  # 3: a resumed training needs CAR's state
        torch.save({"network": network.state_dict(), "car": car.state_dict()}, checkpoint)
    network.eval()
    with torch.no_grad():
        images, labels = (tensor.to(device) for tensor in test_set.tensors)
        accuracy = class_accuracy(network(images), labels)
    return {"network": network, "car": car, "accuracy": accuracy.cpu()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--amp", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--accumulate", type=int, default=1, metavar="BATCHES")
    parser.add_argument("--compile", metavar="BACKEND", help="e.g. inductor")
    parser.add_argument("--weight", type=float, default=0.5, help="of CAR; 0 leaves it out")
    parser.add_argument("--checkpoint", type=Path)
    result = train(**vars(parser.parse_args()))
    print("accuracy of each class:", [f"{value:.0%}" for value in result["accuracy"].tolist()])


if __name__ == "__main__":
    main()
