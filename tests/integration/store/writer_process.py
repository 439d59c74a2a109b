"""A head that does nothing but commit: writes the last seq after each commit, until it is killed."""

import sys

from store_histories import History

from gpusched.store.database import open_store

JOBS_PER_BATCH = 7

with open_store(sys.argv[1]) as store:
    history = History()
    while True:
        batch = history.batch(*(history.submitted(ahead=n) for n in range(JOBS_PER_BATCH)))
        store.commit(batch)
        sys.stdout.write(f"{batch.events[-1].seq}\n")
        sys.stdout.flush()
