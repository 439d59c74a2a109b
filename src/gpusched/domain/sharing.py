"""What is and what is not isolated where GPUs are divided, in words: one place, for every view.

NVIDIA, "Multi-Instance GPU User Guide" and "CUDA Programming Guide", on time-slicing: processes of one GPU
take turns on it, within one memory and one fault domain.
"""

from __future__ import annotations

from decimal import Decimal

from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI, Device


def gpus_text(milli: int) -> str:
    """Write GPUs counted in thousandths: "2", "0.5", "1.25"."""
    return f"{(Decimal(milli) / WHOLE_MILLI).normalize():f}"


def isolation_of_job(spec: JobSpec) -> str | None:
    """Say what keeps a job's part of a GPU apart from others'; None where it has whole GPUs or none."""
    if spec.is_gpu_shared:
        share = gpus_text(spec.gpu_milli)
        return (
            f"{share} of a GPU is counted, not enforced: jobs on it take turns; neither memory, compute nor "
            f"faults are isolated, and {share} of its memory is a wish"
        )
    if spec.mig_profile is not None:
        return f"a MIG slice {spec.mig_profile} has memory, compute and faults of its own"
    return None


def isolation_of_device(device: Device) -> str | None:
    """Say what keeps jobs on one GPU apart; None for a GPU that one job holds alone."""
    if device.shareable:
        return "shareable; jobs on one take turns, and neither memory, compute nor faults are isolated"
    if device.mig_profile is not None:
        return f"MIG slice {device.mig_profile}: memory, compute and faults of its own"
    return None
