"""CAR in the Trainer of Hugging Face (``compute_loss``), with mixed precision, gradient accumulation and torch.compile.

    python examples/hugging_face.py --bf16 --accumulate 2 --compile inductor

Needs carlt (torch alone), transformers, accelerate and scikit-learn: ``pip install 'carlt[examples]'``. The lines with
CAR are numbered. Nothing is downloaded.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from digits import class_accuracy, long_tailed_digits
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification
from transformers.trainer_utils import get_last_checkpoint

from carlt import CAR

STATE = "car.pt"


class CARTrainer(Trainer):
    """A Trainer for image classification whose loss is the model's plus CAR."""

    def __init__(self, *args: Any, class_counts: list[int], weight: float = 0.5, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.car = CAR(class_counts, weight=weight).to(self.args.device)  # 1: it has a state
        self.add_callback(SaveCAR(self.car))  # 2: the state goes into every checkpoint
        # 3: this loss is a mean over the batch, so the Trainer has to divide it by gradient_accumulation_steps.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        labels = inputs["labels"]  # label smoothing takes them out
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:  # 4: the Trainer calls this in evaluation too
            loss = loss + self.car(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        if resume_from_checkpoint:
            state = torch.load(Path(resume_from_checkpoint) / STATE, weights_only=True, map_location=self.args.device)
            self.car.load_state_dict(state)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)


class SaveCAR(TrainerCallback):
    """Saves CAR's state beside the model's."""

    def __init__(self, car: CAR):
        self.car = car

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.car.state_dict(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE)


class Rows(torch.utils.data.Dataset):
    """A data set of tensors as the dictionaries that image classifiers of transformers take."""

    def __init__(self, pairs: torch.utils.data.TensorDataset):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, label = self.pairs[index]
        return {"pixel_values": image, "labels": label}


def compute_metrics(predictions: Any) -> dict[str, float]:
    accuracy = class_accuracy(torch.from_numpy(predictions.predictions), torch.from_numpy(predictions.label_ids))
    return {"accuracy": accuracy.mean().item(), "worst_class": accuracy.min().item()}


def make_trainer(
    epochs: int = 40,
    batch_size: int = 32,
    bf16: bool = False,
    accumulate: int = 1,
    compile: str | None = None,
    weight: float = 0.5,
    folder: Path = Path("hugging_face_example"),
) -> CARTrainer:
    """A trainer of a small ViT; ``train()`` and ``evaluate()`` do the rest."""
    torch.manual_seed(0)
    train_set, test_set, class_counts = long_tailed_digits()
    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=64, num_labels=len(class_counts),
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=not torch.cuda.is_available(), bf16=bf16,
        gradient_accumulation_steps=accumulate, torch_compile=bool(compile), torch_compile_backend=compile,
        num_train_epochs=epochs, learning_rate=3e-3, per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=500, save_strategy="epoch", save_total_limit=1, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    return CARTrainer(
        model=ViTForImageClassification(config), args=arguments, train_dataset=Rows(train_set),
        eval_dataset=Rows(test_set), compute_metrics=compute_metrics, class_counts=class_counts, weight=weight,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--accumulate", type=int, default=1, metavar="BATCHES")
    parser.add_argument("--compile", metavar="BACKEND", help="e.g. inductor")
    parser.add_argument("--weight", type=float, default=0.5, help="of CAR; 0 leaves it out")
    parser.add_argument("--folder", type=Path, default=Path("hugging_face_example"))
    trainer = make_trainer(**vars(parser.parse_args()))
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
