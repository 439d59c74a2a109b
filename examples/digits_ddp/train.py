"""Train a digit classifier with PyTorch DistributedDataParallel.

Runs under anything that sets torch's ``env://`` variables (gpusched, torchrun), with NCCL where
each rank has a GPU and gloo on CPUs. Data are the 1,797 handwritten digits that ship inside
scikit-learn (UCI "Optical Recognition of Handwritten Digits"), so nothing is downloaded.

A checkpoint is written after every epoch and a later run goes on from it. SIGTERM and SIGUSR1
(gpusched's warning before the time limit) stop the training at the end of the epoch, when the
checkpoint is there: the exit code is 143 after SIGTERM, as shells have it, and 0 after SIGUSR1.

Exit code: 0 if the test accuracy reached ``--accuracy``, 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

CHECKPOINT = "digits.pt"
SEED = 0
BAR_WIDTH = 30
COLLECTIVE_TIMEOUT = timedelta(minutes=2)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32, help="samples per rank and step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument(
        "--accuracy", type=float, default=0.95, help="least test accuracy that counts as success"
    )
    parser.add_argument(
        "--checkpoint-dir", type=Path, default=Path(os.environ.get("CHECKPOINT_DIR", "checkpoints"))
    )
    return parser.parse_args()


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """Three quarters to train on, one to test on: the same split on every rank and every run."""
    digits = load_digits()
    parts = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = (torch.as_tensor(part) for part in parts)
    return TensorDataset(train_x.float(), train_y), TensorDataset(test_x.float(), test_y)


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class StopRequest:
    """The signal that asked for a stop, known to all ranks once any of them has had it."""

    def __init__(self) -> None:
        self._signum = 0
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGUSR1, self._note)

    def _note(self, signum: int, _frame: object) -> None:
        self._signum = max(self._signum, signum)  # SIGTERM (15) outranks SIGUSR1 (10)

    def agreed(self, device: torch.device) -> int:
        """Collective: signals reach ranks at different moments, but ranks must stop together."""
        signum = torch.tensor(self._signum, device=device)
        dist.all_reduce(signum, dist.ReduceOp.MAX)
        return int(signum)


def save(directory: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint in one move: a reader sees the old one or the new one, whole."""
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f".{CHECKPOINT}.{os.getpid()}"
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(directory / CHECKPOINT)


def load(directory: Path, rank: int) -> dict[str, Any] | None:
    """Collective: rank 0 reads and tells the others, so no shared file system is needed."""
    path = directory / CHECKPOINT
    box: list[dict[str, Any] | None] = [None]
    if rank == 0 and path.exists():
        box[0] = torch.load(path, map_location="cpu", weights_only=True)
    dist.broadcast_object_list(box)
    return box[0]


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: DataLoader[tuple[Tensor, ...]],
    device: torch.device,
) -> float:
    """Return the mean loss of this rank's samples."""
    model.train()
    losses = []
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


@torch.no_grad()
def test_accuracy(
    model: nn.Module, test: TensorDataset, rank: int, world_size: int, device: torch.device
) -> float:
    """Collective: every rank tests its own slice, each sample once."""
    images, labels = (tensor[rank::world_size].to(device) for tensor in test.tensors)
    model.eval()
    correct = (model(images).argmax(dim=1) == labels).sum()
    dist.all_reduce(correct)
    return int(correct) / len(test)


def progress_line(epoch: int, epochs: int, loss: float, accuracy: float, seconds: float) -> str:
    """A progress bar that is a line of its own: logs have no cursor to move."""
    filled = BAR_WIDTH * epoch // epochs
    bar = "#" * filled + "-" * (BAR_WIDTH - filled)
    return f"epoch {epoch:3}/{epochs} [{bar}] loss {loss:.4f}  test accuracy {accuracy:.4f}  {seconds:.2f} s"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def train(args: argparse.Namespace, device: torch.device) -> int:
    """Train from the last checkpoint on, and return the exit code of this rank."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    stop = StopRequest()
    torch.manual_seed(SEED)
    train_set, test_set = load_data()
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(train_set, seed=SEED)
    batches = DataLoader(train_set, batch_size=args.batch_size, sampler=sampler)

    state = load(args.checkpoint_dir, rank)
    plain = make_model().to(device)
    if state is not None:
        plain.load_state_dict(state["model"])
    model = DistributedDataParallel(plain, device_ids=[device.index] if device.type == "cuda" else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)
    first_epoch = 0
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]

    if rank == 0:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        say(f"{world_size} ranks on {where} over {dist.get_backend()}, {len(train_set)} images to train on")
        if first_epoch:
            say(f"resuming after epoch {first_epoch} from {args.checkpoint_dir / CHECKPOINT}")

    accuracy = test_accuracy(plain, test_set, rank, world_size, device)
    for epoch in range(first_epoch + 1, args.epochs + 1):
        started = time.perf_counter()
        sampler.set_epoch(epoch)
        loss = train_epoch(model, optimizer, batches, device)
        accuracy = test_accuracy(plain, test_set, rank, world_size, device)
        if rank == 0:
            save(
                args.checkpoint_dir,
                {"epoch": epoch, "model": plain.state_dict(), "optimizer": optimizer.state_dict()},
            )
            say(progress_line(epoch, args.epochs, loss, accuracy, time.perf_counter() - started))
        signum = stop.agreed(device)
        if signum and epoch < args.epochs:
            if rank == 0:
                say(f"{signal.Signals(signum).name}: stopping after epoch {epoch}, checkpoint written")
            return 128 + signum if signum == signal.SIGTERM else 0

    if rank == 0:
        say(json.dumps({"accuracy": round(accuracy, 4), "epochs": args.epochs, "test_images": len(test_set)}))
        if accuracy < args.accuracy:
            sys.stderr.write(f"test accuracy {accuracy:.4f} is below {args.accuracy}\n")
            return 1
    return 0


def main() -> int:
    args = parse_args()
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.device_count() > local_rank:
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=COLLECTIVE_TIMEOUT, device_id=device)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        return train(args, device)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
