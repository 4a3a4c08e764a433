"""Encoders of keyframes: what they leave behind."""

from __future__ import annotations

import os

import numpy as np
import pytest

from refenc.keyframes import av1_sequence
from tgv_format.picture import Picture


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no scheduling policies")
def test_a_sequence_leaves_the_scheduling_of_its_thread_alone() -> None:
    # Only where root runs the tests would SVT-AV1 change it.
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    chroma = np.full((32, 32), 128, np.uint8)
    pictures = [Picture(np.full((64, 64), 40 * i, np.uint8), chroma, chroma) for i in range(3)]
    assert len(av1_sequence(pictures, 120)) == 3
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
