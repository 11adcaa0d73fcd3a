"""CAR in a script in the style of timm's train.py: mixup, AMP with a loss scaler, gradient accumulation, a running mean
of the weights, a schedule by epochs, and torch.compile.

    python examples/timm_script.py --model resnet18 --amp --grad-accum-steps 2 --torchcompile inductor

Needs carlt (torch alone), timm and scikit-learn. The lines with CAR are numbered. In timm's own train.py the same lines
go to where ``train_loss_fn`` is made and to where it is called.
"""

import argparse
from contextlib import nullcontext
from typing import Any

import torch
from digits import class_accuracy, long_tailed_digits
from timm import create_model
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3, NativeScaler, random_seed
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from carlt import CAR


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    loss_fn: nn.Module,
    car: CAR,
    args: argparse.Namespace,
    mixup_fn: Mixup | None,
    loss_scaler: NativeScaler | None,
    model_ema: ModelEmaV3 | None,
) -> float:
    """Returns the mean loss."""
    model.train()
    losses = AverageMeter()
    last_accum = len(loader) % args.grad_accum_steps
    for batch_idx, (images, target) in enumerate(loader):
        need_update = batch_idx + 1 == len(loader) or (batch_idx + 1) % args.grad_accum_steps == 0
        accum_steps = last_accum if batch_idx >= len(loader) - last_accum else args.grad_accum_steps
        images, target = resized(images, args).to(args.device), target.to(args.device)
        if mixup_fn is not None:
            images, target = mixup_fn(images, target)
        with autocast(args):
            output = model(images)
            loss = loss_fn(output, target) + car(output, target)  # 2: labels may be soft, as mixup gives them
        losses.update(loss.item(), len(images))
        loss = loss / accum_steps
        if loss_scaler is not None:
            loss_scaler(
                loss, optimizer, clip_grad=args.clip_grad, parameters=model.parameters(), need_update=need_update
            )
        else:
            loss.backward()
            if need_update:
                nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
                optimizer.step()
        if need_update:
            optimizer.zero_grad()
            if model_ema is not None:
                model_ema.update(model)
    return losses.avg


@torch.no_grad()
def validate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """The accuracy of each class."""
    model.eval()
    with autocast(args):
        logits = model(resized(images, args).to(args.device))
    return class_accuracy(logits.float().cpu(), labels)


def resized(images: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    return F.interpolate(images, size=(args.img_size, args.img_size), mode="bilinear")


def autocast(args: argparse.Namespace) -> Any:
    return torch.autocast(args.device, getattr(torch, args.amp_dtype)) if args.amp else nullcontext()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--opt", default="adamw")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sched", default="cosine")
    parser.add_argument("--warmup-epochs", type=int, default=1)
    parser.add_argument("--clip-grad", type=float, default=1.0)
    parser.add_argument("--mixup", type=float, default=0.0)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--amp-dtype", default="bfloat16", choices=("bfloat16", "float16"))
    parser.add_argument("--grad-accum-steps", type=int, default=1)
    parser.add_argument("--model-ema-decay", type=float, default=0.0)
    parser.add_argument("--torchcompile", metavar="BACKEND", help="e.g. inductor")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--car-weight", type=float, default=0.5, help="0 leaves CAR out")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> dict[str, Any]:
    args = parse(words)
    random_seed(args.seed)
    train_set, test_set, class_counts = long_tailed_digits()
    loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    model = create_model(args.model, in_chans=1, num_classes=len(class_counts)).to(args.device)
    optimizer = create_optimizer_v2(model, opt=args.opt, lr=args.lr, weight_decay=0.05)
    model_ema = ModelEmaV3(model, decay=args.model_ema_decay) if args.model_ema_decay else None
    if args.torchcompile:
        model = torch.compile(model, backend=args.torchcompile)
    # Without label smoothing two classes of an image have a share; with it all have, and each costs CAR a row of work.
    mixup_fn = Mixup(mixup_alpha=args.mixup, num_classes=len(class_counts), label_smoothing=0) if args.mixup else None
    loss_fn = SoftTargetCrossEntropy() if mixup_fn else nn.CrossEntropyLoss()
    car = CAR(class_counts, weight=args.car_weight).to(args.device)  # 1: save car.state_dict() beside the model's
    scaled = args.amp and args.amp_dtype == "float16"
    loss_scaler = NativeScaler(device=args.device) if scaled else None
    scheduler, epochs = create_scheduler_v2(
        optimizer, sched=args.sched, num_epochs=args.epochs, warmup_epochs=args.warmup_epochs
    )
    for epoch in range(epochs):
        loss = train_one_epoch(model, loader, optimizer, loss_fn, car, args, mixup_fn, loss_scaler, model_ema)
        scheduler.step(epoch + 1)
    tested = model if model_ema is None else model_ema.module
    accuracy = validate(tested, *test_set.tensors, args)
    print(f"loss {loss:.3f}  accuracy of each class:", [f"{value:.0%}" for value in accuracy.tolist()])
    return {"model": model, "car": car, "accuracy": accuracy}


if __name__ == "__main__":
    main()
