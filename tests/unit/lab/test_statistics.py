"""Latencies, rates and errors of a fleet."""

from __future__ import annotations

import random

import pytest

from mtls_ambassador.lab.statistics import Latencies, Statistics


class TestLatencies:
    def test_none(self) -> None:
        assert Latencies().quantile(0.5) == 0.0

    def test_quantiles_are_two_per_cent_too_long_at_most(self) -> None:
        found = Latencies()
        generator = random.Random(7)
        times = sorted(generator.lognormvariate(-4, 1.5) for _ in range(5000))
        for seconds in generator.sample(times, len(times)):
            found.add(seconds)
        for part in (0.0002, 0.5, 0.95, 0.99, 1.0):
            exact = times[max(0, round(part * 5000) - 1)]
            assert exact <= found.quantile(part) * 1.000001
            assert found.quantile(part) <= exact * 1.021
        assert found.most == found.quantile(1) == times[-1]

    def test_memory_does_not_grow_with_time(self) -> None:
        found = Latencies()
        for number in range(100_000):
            found.add(number / 1000)
        assert len(found._buckets) < 1000

    @pytest.mark.parametrize("seconds", [0.0, -1e-9])
    def test_a_clock_that_stands_still_is_no_trouble(self, seconds: float) -> None:
        found = Latencies()
        found.add(seconds)
        assert found.quantile(0.5) == 0.0


class TestStatistics:
    def test_sums_up_by_kind(self) -> None:
        statistics = Statistics()
        for status in (200, 200, 404, None):
            statistics.call("update_check", 0.1, status)
        statistics.call("connection", 0.5, 0)
        summary = statistics.summary(2.0)
        assert statistics.calls == 4
        kind = summary.kinds["update_check"]
        assert (kind.count, kind.per_second) == (4, 2.0)
        assert kind.statuses == {"200": 2, "404": 1, "none": 1}
        assert kind.p50_ms == kind.max_ms == 100.0
        assert summary.kinds["connection"].statuses == {}
        assert list(summary.kinds) == ["connection", "update_check"]

    def test_counts_errors_the_most_frequent_first(self) -> None:
        statistics = Statistics()
        for what in ("a", "b", "b"):
            statistics.error(what)
        summary = statistics.summary(1.0)
        assert list(summary.errors.items()) == [("b", 2), ("a", 1)]
        assert summary.failures == statistics.failures == 3

    def test_keeps_no_endless_list_of_errors(self) -> None:
        statistics = Statistics()
        for number in range(1000):
            statistics.error(f"error {number}")
        errors = statistics.summary(1.0).errors
        assert len(errors) == 51
        assert errors["of other kinds"] == 950

    def test_forgets(self) -> None:
        statistics = Statistics()
        statistics.call("update_check", 0.1, 200)
        statistics.error("a")
        statistics.clear()
        assert statistics.summary(1.0) == Statistics().summary(1.0)

    def test_nothing_happened(self) -> None:
        summary = Statistics().summary(0.0)
        assert (summary.kinds, summary.errors, summary.failures) == ({}, {}, 0)
