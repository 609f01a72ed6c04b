"""Whatever a client sends, the application sees the identity of its key, or none."""

from smuggling import VARIANTS


def test_no_variant_changes_the_identity(fuzzed):
    assert sum(fuzzed.variants.values()) >= VARIANTS
    assert not fuzzed.wrong, fuzzed.wrong[:5]


def test_the_variants_reach_the_application(fuzzed):
    """Otherwise, the test above says little."""
    counts = {}
    for (kind, sent, method, status), count in fuzzed.statuses.items():
        if kind == "packed":
            counts.setdefault((sent, method), {})[status] = count
    assert set(counts["key", None]) == {200}
    assert set(counts["none", None]) == {401}
    assert set(counts["none", "OPTIONS"]) <= {200, 204}
