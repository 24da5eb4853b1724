"""The names that other programs use for our schedulers. No torch: requests are checked by it."""

import re
from collections.abc import Iterable

# Folded as by `_fold`. Only names that do not fold to ours by themselves: "Euler a" of AUTOMATIC1111 and the classes
# of diffusers.
_OTHER_NAMES = {
    "eulera": "euler_ancestral",
    "euleranc": "euler_ancestral",
    "eulerdiscrete": "euler",
    "eulerancestraldiscrete": "euler_ancestral",
    "dpmsolvermultistep": "dpmpp_2m",
    "dpmsolverpp": "dpmpp_2m",
    "plms": "pndm",
    "unipcmultistep": "unipc",
    "deismultistep": "deis",
    "heundiscrete": "heun",
}


def canonical(name: str, known: Iterable[str]) -> str | None:
    """Our name of a scheduler that may be written as elsewhere; None unless it is one of `known`.

    Case, spaces, hyphens and underscores make no difference: "DPM++ 2M Karras" is dpmpp_2m_karras. Neither does
    the "k_" of k-diffusion, nor the "Scheduler" of diffusers.
    """
    ours = {_fold(one): one for one in known}
    folded = _fold(name)
    for candidate in (folded, folded.removeprefix("k")):
        if candidate in ours:
            return ours[candidate]
        if (other := _OTHER_NAMES.get(candidate)) and _fold(other) in ours:
            return ours[_fold(other)]
    return None


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold().replace("++", "pp")).removesuffix("scheduler")
