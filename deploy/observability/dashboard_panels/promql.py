"""PromQL of the panels."""

# Every query selects by the dashboard variables. No metric has a label that names a tenant, and no query may use one.
SELECTOR = 'job="$job", instance=~"$instance"'


def rate(metric, labels="", by="", window="$__rate_interval"):
    """Returns the PromQL of a rate per second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{', '.join(filter(None, [SELECTOR, labels]))}}}[{window}]))"


def quantile(share, metric, labels="", by=""):
    """Returns the PromQL of a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', labels, ', '.join(filter(None, ['le', by])))})"


def gauge(metric, labels=""):
    """Returns the PromQL of a gauge, or of the plain value of a counter."""
    return f"{metric}{{{', '.join(filter(None, [SELECTOR, labels]))}}}"
