"""Trained weights and their cards. Listing reads cards alone and knows no torch."""

from lic.weights.store import (
    DEFAULT_TUNE,
    Card,
    companions,
    find_weights,
    list_cards,
    load_tensors,
    network_state,
    save_weights,
)

__all__ = [
    "DEFAULT_TUNE",
    "Card",
    "companions",
    "find_weights",
    "list_cards",
    "load_tensors",
    "network_state",
    "save_weights",
]
