"""Train a small network on scikit-learn's handwritten digits with DistributedDataParallel.

Plain PyTorch that needs nothing of gpusched: it reads torch's ``env://`` variables, prints, and
writes one checkpoint file. Where $GPUSCHED_PROGRESS_FILE is set it says there how far it is.
README.md beside it says how to run it and how it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

SEED = 0
SILENCE_MAX = timedelta(minutes=2)  # a rank that waits longer for the others gives up
TERMINATED = 128 + signal.SIGTERM  # what a shell reports of a program that SIGTERM ended
GO_ON, SAVE, STOP = range(3)  # in this order: the most urgent wish of any rank is what all ranks do


@dataclass(frozen=True)
class Progress:
    """How far training has come: whole epochs, then samples of the next one, counted over all ranks."""

    epoch: int = 0
    samples: int = 0


class Interrupts:
    """SIGUSR1 (the time limit is near) asks for a checkpoint, SIGTERM for a checkpoint and an end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._warnings = self._warnings_seen = 0
        self._terminated = False
        signal.signal(signal.SIGUSR1, self._warn)
        signal.signal(signal.SIGTERM, self._terminate)

    def _warn(self, *_: object) -> None:
        self._warnings += 1

    def _terminate(self, *_: object) -> None:
        self._terminated = True

    def agree(self) -> int:
        """Return what all ranks do now.

        A signal reaches each rank at another moment; a rank that stopped alone would leave the
        others waiting for its gradients.
        """
        warnings = self._warnings
        wish = STOP if self._terminated else SAVE if warnings > self._warnings_seen else GO_ON
        self._warnings_seen = warnings
        wishes = torch.tensor(wish, device=self._device)
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        return int(wishes)


class Trainer:
    """The model, its optimizer, and how far they have come."""

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.args, self.device = args, device
        self.checkpoint: Path = args.checkpoint_dir / "digits.pt"
        self.progress = Progress()
        self.steps, self.own_s = 0, 0.0  # of this process; the seconds are of the forward pass
        torch.manual_seed(SEED)
        network = small_network().to(device)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr)
        self._resume(network)
        self.model = DistributedDataParallel(network)
        self.interrupts = Interrupts(device)

    def _resume(self, network: nn.Module) -> None:
        """Load the checkpoint, if there is one. Only rank 0 needs to see the file."""
        found = [None]
        if dist.get_rank() == 0 and self.checkpoint.exists():
            found = [torch.load(self.checkpoint, map_location="cpu", weights_only=True)]
        dist.broadcast_object_list(found, device=self.device)
        state = found[0]
        if state is None:
            say(f"no {self.checkpoint}: starting from nothing")
            return
        network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        at = self.progress
        say(f"resuming from {self.checkpoint}: {at.epoch} epochs and {at.samples} samples are done")

    def save(self) -> None:
        """Write the checkpoint whole or not at all: a temporary file, synced, then renamed."""
        if dist.get_rank() != 0:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.checkpoint.with_suffix(".tmp")
        state = {
            "network": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
        }
        with unfinished.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.checkpoint)

    def train(self, data: TensorDataset) -> bool:
        """Train to the last epoch.

        Returns:
            Whether it came that far; False after SIGTERM.
        """
        sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(data, seed=SEED)
        batches = DataLoader(data, batch_size=self.args.batch_size, sampler=sampler)
        for epoch in range(self.progress.epoch, self.args.epochs):
            sampler.set_epoch(epoch)  # the same order for the same epoch, also after a restart
            if not self._train_epoch(batches):
                return False
        return True

    def _train_epoch(self, batches: DataLoader[tuple[Tensor, ...]]) -> bool:
        start, epoch = time.perf_counter(), self.progress.epoch
        global_batch = self.args.batch_size * dist.get_world_size()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right answers, samples
        for images, labels in islice(batches, self.progress.samples // global_batch, None):
            wish = self.interrupts.agree()
            if wish != GO_ON:
                self.save()
                say(f"checkpoint in epoch {epoch + 1} on {'SIGTERM' if wish == STOP else 'SIGUSR1'}")
            if wish == STOP:
                return False
            sums += self._step(images, labels)
            self.progress = Progress(epoch, self.progress.samples + global_batch)
        dist.all_reduce(sums)
        self.progress = Progress(epoch + 1)
        self.save()
        self._report(sums, time.perf_counter() - start)
        return True

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        start = time.perf_counter()
        images, labels = images.to(self.device), labels.to(self.device)
        scores = self.model(images)
        loss = nn.functional.cross_entropy(scores, labels)
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # until here no rank has waited for another
        self.own_s += time.perf_counter() - start
        self.optimizer.zero_grad()
        loss.backward()  # DistributedDataParallel averages the gradients over all ranks here
        self.optimizer.step()
        self.steps += 1
        note_progress(self.steps, self.own_s)
        return measure(scores.detach(), labels)

    def _report(self, sums: Tensor, wall_s: float) -> None:
        """Print a progress bar that is a line of its own: logs have no cursor to move."""
        loss, right, count = sums.tolist()
        done, total = self.progress.epoch, self.args.epochs
        bar = "#" * (20 * done // total)
        where = f"epoch {done:{len(str(total))}}/{total} [{bar:-<20}]"
        say(f"{where} loss {loss / count:.4f}  accuracy {right / count:.3f}  {count / wall_s:,.0f} samples/s")

    @torch.no_grad()
    def test(self, data: TensorDataset) -> tuple[float, float]:
        """Return loss and accuracy on data that training never saw; each rank takes its share."""
        rank, world_size = dist.get_rank(), dist.get_world_size()
        images, labels = (tensor[rank::world_size].to(self.device) for tensor in data.tensors)
        sums = measure(self.model.module(images), labels)
        dist.all_reduce(sums)
        loss, right, count = sums.tolist()
        return loss / count, right / count


def say(text: str) -> None:
    """Print from rank 0 alone."""
    if dist.get_rank() == 0:
        print(text, flush=True)


def note_progress(steps: int, own_s: float) -> None:
    """Leave word of how far this rank is and how long its own work took: so one that is slow can be told."""
    path = os.environ.get("GPUSCHED_PROGRESS_FILE")
    if path:
        Path(path).write_text(f"{steps} {own_s:.6f}", encoding="utf-8")


def measure(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the sums over a batch of (loss, right answers, samples), shape (3,)."""
    loss = nn.functional.cross_entropy(scores, labels, reduction="sum")
    right = (scores.argmax(dim=1) == labels).sum()
    return torch.stack([loss, right, torch.tensor(len(labels), device=scores.device)]).double()


def small_network() -> nn.Module:
    """Build a convolutional network for images of 8 x 8 and 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """Split the digits: three quarters of each class to train on, one to test on; the same on every rank."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test = train_test_split(
        range(len(labels)), test_size=0.25, stratify=digits.target, random_state=SEED
    )
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train on handwritten digits, one process per rank.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16, help="samples per rank and step")
    parser.add_argument("--lr", type=float, default=4e-3, help="learning rate")
    parser.add_argument("--min-accuracy", type=float, default=0.95, help="on the test part; exit 1 below it")
    directory = Path(os.environ.get("CHECKPOINT_DIR", "checkpoints"))
    parser.add_argument(
        "--checkpoint-dir", type=Path, default=directory, help="default: $CHECKPOINT_DIR or ./checkpoints"
    )
    return parser.parse_args()


def join_group() -> torch.device:
    """Meet the other ranks, over NCCL where there are GPUs, else over gloo; return this rank's device."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=SILENCE_MAX, device_id=device)
        name = torch.cuda.get_device_name(device)
    else:
        device, name = torch.device("cpu"), "the CPU"
        dist.init_process_group("gloo", timeout=SILENCE_MAX)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()}: {dist.get_backend()} on {name}", flush=True)
    return device


def run(args: argparse.Namespace, device: torch.device) -> int:
    """Train and test.

    Returns:
        The exit code, the same on every rank.
    """
    start = time.perf_counter()
    training, test = load_data()
    trainer = Trainer(args, device)
    if not trainer.train(training):
        return TERMINATED
    loss, accuracy = trainer.test(test)
    is_enough = accuracy >= args.min_accuracy
    if not is_enough:
        say(f"the test accuracy is below {args.min_accuracy}, the least that was asked for")
    result = {
        "test_accuracy": round(accuracy, 4),
        "test_loss": round(loss, 6),
        "epochs": trainer.progress.epoch,
        "world_size": dist.get_world_size(),
        "device": device.type,
        "wall_s": round(time.perf_counter() - start, 2),
    }
    say(json.dumps(result))
    return 0 if is_enough else 1


def main() -> int:
    """Join, run, leave."""
    args = parse_args()
    device = join_group()
    try:
        return run(args, device)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    code = main()
    # DistributedDataParallel keeps gloo's threads alive beyond the group, and one that still holds a
    # tensor aborts an interpreter that is shutting down (github.com/pytorch/pytorch/pull/179291).
    sys.stdout.flush()
    os._exit(code)
