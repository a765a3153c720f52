"""What a fit demands of its features, by number instead of by name."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt.binned_dataset import BinnedDataset
from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError, ParameterError
from qgbdt.matrices import is_sparse
from qgbdt.params import CommonParams, is_int, is_real

QUANTILE_OBJECTIVES = ("l1", "quantile", "mape")
MOST_INTERACTING = {"no_interactions": 1, "pairwise": 2}


def constraint_params(
    estimator: CommonParams, names: Sequence[str], objective: str
) -> dict[str, Any]:
    """The trainer's parameters for monotone_constraints, interaction_constraints, forced_splits.

    Raises
    ------
    ParameterError
        If the objective has no prediction that could be monotone, or forced_splits are no splits.
    DataError
        If they name features that X does not have.
    """
    monotone, interactions = estimator.monotone_constraints, estimator.interaction_constraints
    if monotone is not None and objective == "multiclass":
        raise ParameterError(
            "monotone_constraints are not for objective='multiclass': the score of a class can be "
            "monotone, its probability cannot. Use None, or a classifier for each class."
        )
    if monotone is not None and objective in QUANTILE_OBJECTIVES:
        raise ParameterError(
            f"monotone_constraints are not for objective={objective!r}: its leaves are quantiles, "
            "which nothing keeps in order. Use None, or objective='huber'."
        )
    return {
        "monotone_constraints": monotone_signs(monotone, names),
        "interaction_sets": interaction_sets(interactions, names),
        "most_interacting": MOST_INTERACTING.get(interactions, 0)
        if isinstance(interactions, str)
        else 0,
        "forced_splits": forced_splits(estimator.forced_splits, names),
    }


def check_linear_tree(
    estimator: CommonParams, objective: str, X: Any, workers: Communicator
) -> None:
    """Raise ParameterError or DataError if leaves are to be linear and cannot be."""
    if not estimator.linear_tree:
        return
    for name, is_set, why in (
        ("device='cuda'", estimator.device == "cuda", "trains on the CPU"),
        (
            f"boosting_type={estimator.boosting_type!r}",
            estimator.boosting_type != "gbdt",
            "keeps its trees as they are",
        ),
        ("monotone_constraints", estimator.monotone_constraints is not None, "keeps no direction"),
        ("zero_as_missing", estimator.zero_as_missing, "is linear in numbers, zero among them"),
        ("path_smooth", estimator.path_smooth > 0, "smooths no coefficients"),
        ("renew_leaves=False", not estimator.renew_leaves, "fits leaves to unquantized gradients"),
        (
            f"objective={objective!r}",
            objective in QUANTILE_OBJECTIVES,
            "fits leaves to gradients, but this objective's are quantiles",
        ),
    ):
        if is_set:
            raise ParameterError(
                f"linear_tree=True is not for {name}: it {why}. Leave out one of the two."
            )
    if not workers.is_alone:
        raise ParameterError(
            "linear_tree=True fits a leaf to all of its rows, which several workers do not have. "
            "Train on one, or with linear_tree=False."
        )
    if isinstance(X, BinnedDataset):
        raise DataError("linear_tree=True needs numbers, a BinnedDataset has bins. Use X itself.")
    if is_sparse(X):
        raise DataError("linear_tree=True needs dense data, X is sparse. Use X.toarray().")


def monotone_signs(constraints: Any, names: Sequence[str]) -> NDArray[np.int8]:
    """-1, 0 or 1 for each feature; no features if there are no constraints."""
    if constraints is None:
        return np.zeros(0, np.int8)
    if isinstance(constraints, Mapping):
        signs = np.zeros(len(names), np.int8)
        for name, sign in constraints.items():
            signs[number_of(name, names, "monotone_constraints")] = sign
        return signs
    signs = np.asarray(constraints, np.int8)
    if len(signs) != len(names):
        raise DataError(
            f"monotone_constraints must have one value per feature of X, {len(names)}. Got "
            f"{len(signs)} instead."
        )
    return signs


def interaction_sets(constraints: Any, names: Sequence[str]) -> NDArray[np.uint8]:
    """Rows of 1 for the features of each set, and of those that are in no set; or no rows."""
    sets: list[NDArray[np.uint8]] = []
    if constraints is None or isinstance(constraints, str):
        return np.zeros((0, len(names)), np.uint8)
    for some in [*constraints, unlisted(constraints, names)]:
        row = np.zeros(len(names), np.uint8)
        row[[number_of(feature, names, "interaction_constraints") for feature in some]] = 1
        sets.append(row)
    return np.array(sets)


def unlisted(sets: Iterable[Iterable[Any]], names: Sequence[str]) -> list[int]:
    """The features in none of the sets."""
    listed = {
        number_of(feature, names, "interaction_constraints") for some in sets for feature in some
    }
    return [number for number in range(len(names)) if number not in listed]


def forced_splits(
    forced: Mapping[str, Any] | None, names: Sequence[str]
) -> list[tuple[int, float, int, int]]:
    """(feature, threshold, left, right) of each, the root's first; left and right are places or -1.

    >>> low = {"feature": 1, "threshold": 0.5}
    >>> forced_splits({"feature": "a", "threshold": 2, "right": low}, ["a", "b"])
    [(0, 2.0, -1, 1), (1, 0.5, -1, -1)]
    """
    splits = [forced] if forced else []
    found = []
    for split in splits:  # which grows
        if not is_split(split):
            raise ParameterError(
                "forced_splits must be dicts of a feature (by index or name), a finite threshold "
                f"and, for sides that are split on, left and right. Got {split!r} instead."
            )
        feature = number_of(split["feature"], names, "forced_splits")
        left, right = (split.get(side) for side in ("left", "right"))
        place_of_left = len(splits)
        place_of_right = place_of_left + bool(left)
        splits += [some for some in (left, right) if some]
        places = place_of_left if left else -1, place_of_right if right else -1
        found.append((feature, float(split["threshold"]), *places))
    return found


def is_split(split: Any) -> bool:
    """Whether it has what a forced split has, and nothing else."""
    if not isinstance(split, Mapping) or not {"feature", "threshold"} <= set(split):
        return False
    if not set(split) <= {"feature", "threshold", "left", "right"}:
        return False
    is_feature = isinstance(split["feature"], str) or is_int(split["feature"])
    threshold = split["threshold"]
    return is_feature and is_real(threshold) and math.isfinite(threshold)


def number_of(feature: Any, names: Sequence[str], parameter: str) -> int:
    """The number of a feature, given by it or by name."""
    if isinstance(feature, str):
        if feature in names:
            return names.index(feature)
        nearest = difflib.get_close_matches(feature, names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise DataError(f"{parameter} names {feature!r}, which is no feature of X.{hint}")
    if not 0 <= feature < len(names):
        raise DataError(
            f"{parameter} has the feature {feature}, but those of X are 0 to {len(names) - 1}."
        )
    return int(feature)
