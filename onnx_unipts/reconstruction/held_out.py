"""The share of samples that judges what layers were fitted to on the others."""

__all__ = ["HELD_OUT"]

# One in so many: of those that a layer is fitted to, to choose between fits; of all, to tell what a
# fit is worth on samples that it has not seen.
HELD_OUT = 4
