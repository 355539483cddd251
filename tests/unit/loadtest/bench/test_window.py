"""The node's latency histogram as the benchmark reads it, and the clients' own."""

from __future__ import annotations

import math

import numpy as np

from loadtest.bench.window import histogram_quantile, latency_buckets, quantile, spread_over_subscribers
from loadtest.engine.layout import LATENCY_BUCKETS
from loadtest.engine.streams import bucket_of


def test_quantiles_are_interpolated_in_their_bucket_as_prometheus_does() -> None:
    text = (
        "# TYPE weir_forward_latency_seconds histogram\n"
        'weir_forward_latency_seconds_bucket{worker="0",le="0.0001"} 50\n'
        'weir_forward_latency_seconds_bucket{worker="0",le="0.001"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="0",le="+Inf"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="0.0001"} 50\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="0.001"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="+Inf"} 100\n'
        "weir_forward_latency_seconds_sum 1\nweir_forward_latency_seconds_count 200\n"
    )
    buckets = latency_buckets(text)
    assert buckets[0.0001] == 100 and buckets[math.inf] == 200
    assert histogram_quantile(buckets, 0.25) == 50.0
    assert histogram_quantile(buckets, 0.75) == 550.0
    assert math.isnan(histogram_quantile({}, 0.5))


def test_the_spread_over_subscribers_leaves_out_those_without_packets() -> None:
    latency = np.zeros((3, LATENCY_BUCKETS), np.int64)
    latency[0, bucket_of(900_000)], latency[2, bucket_of(90_000)] = 5, 7
    found = spread_over_subscribers(latency, 0.5)
    assert found.size == 2 and 80 < found[0] < 100 and 800 < found[1] < 1000
    assert math.isnan(quantile(latency[1], 0.5))
