"""Prices in force. Products of integers and Decimals stay exact; one division ends each sum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal, localcontext
from itertools import pairwise

from gpusched.domain.allocation import GrantedDevice
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.usage import AttemptSpan, Rate, RateBook
from gpusched.placement.request import is_model_match

HOUR_US = 3_600_000_000
FOUR_PLACES = Decimal("0.0001")

EXACT = Context(prec=60)
"""A century of a million devices at prices of 20 digits is exact within it."""


def rate_in_force(model: str, book: RateBook, at_us: int) -> Rate | None:
    """Find the rate of a device model at an instant; None if the book has none.

    Of the rates for the same words the latest that has begun is in force. Of those in force
    that fit the model, the one with most words wins ("H100 80GB" over "H100" over "*"), then
    the first in the alphabet, so that the order of the book does not matter.
    """
    in_force: dict[str, Rate] = {}
    for rate in book.rates:
        known = in_force.get(rate.model)
        if rate.effective_from_us <= at_us and (
            known is None or known.effective_from_us <= rate.effective_from_us
        ):
            in_force[rate.model] = rate
    fitting = [rate for rate in in_force.values() if rate.model == "*" or is_model_match(rate.model, model)]
    return min(fitting, key=lambda rate: (-_word_count(rate.model), rate.model), default=None)


def _word_count(words: str) -> int:
    return 0 if words == "*" else len(re.findall(r"[A-Za-z0-9]+", words))


def price_per_hour(devices: Sequence[GrantedDevice], book: RateBook, at_us: int) -> Decimal:
    """Add up what one hour of these devices costs at prices of ``at_us``; no rate counts as 0."""
    rates = [(rate_in_force(device.model, book, at_us), device.milli) for device in devices]
    with localcontext(EXACT):
        priced = sum((rate.per_gpu_hour * milli for rate, milli in rates if rate is not None), Decimal(0))
        return priced / WHOLE_MILLI


def price_steps(
    model: str, book: RateBook, start_us: int, end_us: int
) -> Iterator[tuple[int, int, Decimal | None]]:
    """Cut a time wherever the price of ``model`` may change: (start, end, price of an hour or None)."""
    changes = {rate.effective_from_us for rate in book.rates if start_us < rate.effective_from_us < end_us}
    edges = [start_us, *sorted(changes), end_us]
    for begin, end in pairwise(edges):
        rate = rate_in_force(model, book, begin)
        yield begin, end, None if rate is None else rate.per_gpu_hour


def amount(milli_us_by_price: Mapping[Decimal, int]) -> Decimal:
    """Price device time: thousandths of devices times microseconds, by the price of a device's hour.

    Exact but for one last division.
    """
    with localcontext(EXACT):
        priced = sum((price * milli_us for price, milli_us in milli_us_by_price.items()), Decimal(0))
        return priced / (HOUR_US * WHOLE_MILLI)


def attempt_cost(span: AttemptSpan, book: RateBook, now_us: int) -> Decimal:
    """Price one attempt from its grant until its end, or until now; to four places.

    An estimate for the job's owner. The bill is ``cost_report``, which also takes off the time
    in which a node was down.
    """
    start_us = span.allocation.granted_at_us
    end_us = max(start_us, now_us if span.ended_at_us is None else span.ended_at_us)
    used: dict[Decimal, int] = {}
    for part in span.allocation.nodes:
        for device in part.devices:
            for begin, end, price in price_steps(device.model, book, start_us, end_us):
                if price is not None:
                    used[price] = used.get(price, 0) + (end - begin) * device.milli
    return amount(used).quantize(FOUR_PLACES)
