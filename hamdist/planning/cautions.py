"""What of a network will probably not learn, a line each: rates above what a delay bears, depth that adds up."""

from collections.abc import Iterator

from hamdist.engine.spec import Outline
from hamdist.network.learning import Learning
from hamdist.physics.rates import bearable
from hamdist.report.wording import listed

DEEP = 12  # residual blocks that add up unscaled; digits still learn as well at 6 layers, and worse at 20


def cautions(outline: Outline, unscaled: int) -> Iterator[str]:
    """unscaled: how many residual blocks of the network have a scale of 1."""
    yield from _too_fast(outline)
    if unscaled >= DEEP and outline.delays:
        yield (
            f"depth: {unscaled} residual blocks add up as they are, which makes the loss steep where costates come "
            "late: set residual: {scale: auto} (in Python Residual(…, scale='auto'))"
        )


def _too_fast(outline: Outline) -> Iterator[str]:
    """Of layers whose rate does not shrink with the delay, or of a β of more than 1."""
    learning, pairing = outline.learning, outline.locality.pairing
    if outline.locality.gate == "settled" or learning.dynamics.rate.adaptive is not None:
        return
    if learning.delay_scaled(pairing) and learning.exponent > 0 and learning.dynamics.rate.peak <= 1:
        return
    late = {name: ticks + learning.dynamics.integrator.lag for name, ticks in outline.depth.items() if ticks}
    moves = {name: learning.moved(outline.depth[name], pairing, outline.delays) for name in late}
    above = [name for name in late if moves[name] > _bound(learning, late[name])]
    if above:
        worst = max(above, key=lambda name: moves[name] / _bound(learning, late[name]))
        yield (
            f"rates: beta·tau/dissipation.weight is {moves[worst]:.3g} in {worst}, whose drives are {late[worst]} "
            f"updates old: at unit curvature that is stable up to {_bound(learning, late[worst]):.3g}, which "
            f"{len(above)} of {len(outline.depth)} layers exceed ({listed(above)}): set learning.rate: delay-scaled, "
            "or lower learning.beta"
        )


def _bound(learning: Learning, late: int) -> float:
    return bearable(late, learning.dynamics.weight_coefficients.decay > 0)
