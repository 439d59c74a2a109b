"""A node is cut off from the head: its job never runs twice at once (R6), and soon runs elsewhere (R7).

Real agents in network namespaces, over TLS. The cut is a pulled cable, packets lost in one direction only,
an agent that is stopped, or a cable pulled while the head is killed too. The job writes ten signs of life
a second.

python -m torture.partitions --out FILE        (as root)
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from simulation.checkers import Kind, Violation
from torture.network import Host, network
from torture.records import broken, judge
from torture.ticking import TickingJobs

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.ids import Epoch, JobId

