"""Einsum, by equation."""

from __future__ import annotations

from operator_cases.case import case, scalar, spread

EINSUMS: dict[str, list[tuple[int, ...]]] = {
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bhid,bhjd->bhij": [(2, 2, 3, 4), (2, 2, 5, 4)],
    "ij->ji": [(3, 4)],
    "ij->": [(3, 4)],
    "i,j->ij": [(3,), (4,)],
    "i,i->": [(4,), (4,)],
    "...ij,jk->...ik": [(2, 3, 4, 5), (5, 6)],
    "ij,jk": [(3, 4), (4, 5)],
    "ab,bc,cd->ad": [(2, 3), (3, 4), (4, 5)],
    "bhwc,hkc->bhwk": [(2, 3, 4, 5), (3, 6, 5)],
    "ijk,il->kl": [(2, 3, 4), (2, 5)],
    "nchw,nc->nc": [(2, 3, 4, 4), (2, 3)],
    "i,->i": [(3,), ()],
}
for equation, shapes in EINSUMS.items():
    names = "xvw"[: len(shapes)]
    operands = {n: spread(*s) if s else scalar(0.7) for n, s in zip(names, shapes, strict=True)}
    case(
        f"einsum {equation}",
        f'y = Einsum <equation = "{equation}"> ({", ".join(names)})',
        **operands,
    )
