"""A policy given to another policy as a function used to be taken for one, and the outer one was lost."""

import pytest

from resilient import Pipeline, degrade, retry, timeout


@pytest.mark.parametrize("outer", [retry(), degrade(fallback=1), Pipeline(retry())])
@pytest.mark.parametrize("inner", [timeout(1), Pipeline(timeout(1))])
def test_policy_over_policy(outer, inner):
    """Decorating a policy with a policy says to stack them on a function, or to use a pipeline."""
    with pytest.raises(TypeError, match="stack decorators, or use Pipeline"):
        outer(inner)
