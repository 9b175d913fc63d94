"""Who read which stream under whose key: the ledger of a session, and what must hold of it."""

import re
from collections import defaultdict
from collections.abc import Mapping

from protocols.party import Role
from tests.views.watch import Read, Session

PICKERS = dict.fromkeys(("k0", "k1", "k2"), r"draws")  # P1's sampling; the others pick nothing

ADDITIVE = {
    **PICKERS,
    **dict.fromkeys(("k02", "k12"), r"model/.+|\d+/\d+(/b)?"),  # triples, bits, masks
}

# By system: the keys that may be there, named after the roles that hold them, and the names of the
# streams that may be read under each.
KEYS: dict[str, dict[str, str]] = {
    "permllm": {
        **PICKERS,
        "k02": r"model/.+|(\d+/)+p0p2/.+",  # U; permutations, pads t, r, τ0, w0, dithers ρ
        "k12": r"(\d+/)+p1p2/.+",  # masks λ, μ, the known part m of truncated ones
        "k2": r"draws|(\d+/)+p2/.+",  # the low bits ℓ of truncated masks
    },
    "permllm, masked weights at the dealer": {
        **PICKERS,
        "k01": r"model/.+",  # V, which the dealer must not know
        "k02": r"(\d+/)+p0p2/.+",
        "k12": r"(\d+/)+p1p2/.+",
        "k2": r"draws|(\d+/)+p2/.+",
    },
    "mpcformer": ADDITIVE,
    "shaft": ADDITIVE,
    "fss": {
        **PICKERS,
        "k02": r"model/.+",  # masks of weights
        "k2": r"draws|\d+/\d+",  # all other masks, shares and roots: the dealer's alone
    },
    "puma": {
        **PICKERS,
        **dict.fromkeys(("k01", "k02", "k12"), r"model|evaluation/\d+"),  # κ_1, κ_0, κ_2
    },
    "shamir": {
        **dict.fromkeys(PICKERS, r"draws|private/(model|evaluation/\d+)"),
        **dict.fromkeys(("k01", "k02", "k12"), r"(model|evaluation/\d+)/P\d"),  # who deals
    },
}


def key_name(holders: frozenset[Role]) -> str:
    """k02 for the key of P0 and P2."""
    return "k" + "".join(sorted(role[1:] for role in holders))


def complaints(session: Session, keys: Mapping[str, str]) -> list[str]:
    """What is wrong with the session's keys and streams, in words; [] where all is right."""
    found = _wrong_keys(session, keys)
    times: dict[tuple[Role, bytes, str], list[Read]] = defaultdict(list)
    for read in session.reads:
        times[read.role, read.key, read.name].append(read)
        name = key_name(session.holders[read.key])
        if not re.fullmatch(keys.get(name, ""), read.name):
            found.append(f"{read.role} reads {read.name} under {name}")
    for (role, key, name), reads in times.items():
        if name.startswith(
            "model/"
        ):  # a mask of weights: the same for ever, drawn as often as needed
            continue
        if len(reads) > 1:
            found.append(f"{role} reads {name} {len(reads)} times")
        for peer in session.holders[key] - {role}:
            if _size(reads[0]) != sum(_size(read) for read in times.get((peer, key, name), [])[:1]):
                found.append(f"{role} and {peer} read different lengths of {name}")
    return sorted(set(found))


def _wrong_keys(session: Session, keys: Mapping[str, str]) -> list[str]:
    """Keys of the wrong roles, and keys that travel to a role that does not use them."""
    held = {key_name(holders) for holders in session.holders.values()}
    found = [f"there is a key {name}" for name in held - keys.keys()]
    for message in session.received:
        if session.is_key(message.tensor):
            holders = session.holders[message.tensor.numpy().tobytes()]
            if message.to not in holders:
                found.append(f"{message.to} is sent {key_name(holders)}")
    return found


def _size(read: Read) -> int:
    return sum(words.nbytes for _, words in read.draws)


def draws(session: Session, role: Role) -> dict[str, str]:
    """What a role drew, by key and step: kinds and numbers in order, of the last time it did."""
    found = {}
    for read in session.reads:
        if read.role == role:
            step = re.sub(r"^(\d+/)+p\d(p\d)?/", "", read.name)
            drawn = ", ".join(f"{kind} {words.numel()}" for kind, words in read.draws)
            found[f"{key_name(session.holders[read.key])} {step}"] = drawn
    return found
