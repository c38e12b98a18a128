"""What tests themselves lean on."""

import pytest
from support.seeds import over_seeds


def test_what_fails_says_with_which_seed():
    tried = []

    @over_seeds(5)
    def fails(seed: int, limit: int) -> None:
        tried.append(seed)
        assert seed < limit

    with pytest.raises(AssertionError) as caught:
        fails(limit=3)
    assert caught.value.__notes__ == ["with seed 3"]
    assert tried == [0, 1, 2, 3]
    fails(limit=5)
