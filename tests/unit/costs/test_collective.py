from fractions import Fraction

import pytest

from diagnose.costs.collective import (
    algorithm_bytes_per_s,
    bus_bytes_per_s,
    collective_work,
    link_bytes,
    link_factor,
    message_bytes,
)


def metadata(name="allreduce", read=1000, written=1000, dtype="bfloat16", ranks=8):
    return {
        "collective": name,
        "elements_in": read,
        "elements_out": written,
        "dtype": dtype,
        "group_size": ranks,
    }


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("allreduce", Fraction(14, 8)),
        ("all_reduce", Fraction(14, 8)),
        ("allgather_base", Fraction(7, 8)),
        ("reduce_scatter_tensor_coalesced", Fraction(7, 8)),
        ("all_to_allv", Fraction(7, 8)),
        ("broadcast", Fraction(1)),
        ("reduce", Fraction(1)),
        ("barrier", None),
    ],
)
def test_link_factors_are_those_of_bus_bandwidths(name, factor):
    assert link_factor(name, 8) == factor


def test_a_message_crosses_the_link_by_the_factor():
    assert link_bytes(metadata()) == 3500
    gather = metadata("_allgather_base", read=25136, written=201088)
    assert message_bytes(gather) == 2 * 201088
    assert link_bytes(gather) == 7 * 2 * 25136


def test_one_rank_moves_nothing_over_links():
    assert link_bytes(metadata(ranks=1)) == 0
    assert link_bytes(metadata("broadcast", ranks=1)) == 0


def test_own_traffic_is_input_and_output_once():
    work = collective_work(metadata("_allgather_base", read=10, written=80))
    assert (work.flops, work.bytes_read, work.bytes_written, work.source) == ((), 20, 160, "collective")


def test_the_additions_of_a_reduction_are_unknown():
    assert collective_work(metadata("reduce_scatter", read=80, written=10)).flops is None


@pytest.mark.parametrize(
    "broken",
    [{}, metadata(dtype="Unheard"), metadata(read="many"), metadata(read=-1), metadata(written=None)],
)
def test_what_the_metadata_does_not_say_is_unknown(broken):
    assert collective_work(broken) is None
    assert link_bytes(broken) is None


@pytest.mark.parametrize(
    ("name", "read", "written", "algorithm", "bus"),
    [  # 8 ranks, bfloat16, 1 us; nccl-tests: algorithm bandwidth is size / time, the bus's is that times the factor
        ("allreduce", 1000, 1000, 2e9, 3.5e9),
        ("_allgather_base", 1000, 8000, 16e9, 14e9),
        ("_reduce_scatter_base", 8000, 1000, 16e9, 14e9),
        ("all_to_all", 8000, 8000, 16e9, 14e9),
        ("broadcast", 1000, 1000, 2e9, 2e9),
        ("send", 1000, 1000, 2e9, 2e9),
    ],
)
def test_bandwidths_are_those_of_nccl_tests(name, read, written, algorithm, bus):
    found = metadata(name, read, written)
    assert algorithm_bytes_per_s(found, 1000) == pytest.approx(algorithm)
    assert bus_bytes_per_s(found, 1000) == pytest.approx(bus)


def test_without_the_ranks_only_the_algorithms_bandwidth_is_known():
    found = {key: value for key, value in metadata().items() if key != "group_size"}
    assert algorithm_bytes_per_s(found, 1000) == pytest.approx(2e9)
    assert bus_bytes_per_s(found, 1000) is None
    assert algorithm_bytes_per_s(found, 0) is None
