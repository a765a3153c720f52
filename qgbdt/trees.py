"""A tree's nodes as other formats number them: splits from 0, and leaves from 0."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = [
    *["tree_index", "node_depth", "node_index", "left_child", "right_child", "parent_index"],
    *["split_feature", "split_gain", "threshold", "decision_type"],
    *["missing_direction", "missing_type", "value", "weight", "count"],
]
"""Of LightGBM's frame of trees."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NumberedTree:
    """A tree of `Booster.tree`, and what its nodes do not say themselves."""

    nodes: NDArray[np.void]
    is_leaf: NDArray[np.bool_]
    number: Ints  # of a split among the splits, of a leaf among the leaves
    parent: Ints  # the node above; -1 of the root
    depth: Ints  # of the root, 0
    value: Floats  # of a split, what its training rows get of the tree on average

    def names(self, index: int) -> list[str]:
        """What LightGBM calls the nodes of tree `index`."""
        kinds = np.where(self.is_leaf, "L", "S").tolist()
        return [f"{index}-{kind}{number}" for kind, number in zip(kinds, self.number.tolist())]

    def depth_first(self) -> list[int]:
        """The nodes, what is below a node right behind it."""
        order, todo = [], [0]
        while todo:
            order.append(todo.pop())
            if not self.is_leaf[order[-1]]:
                node = self.nodes[order[-1]]
                todo += [int(node["right"]), int(node["left"])]
        return order


def numbered(nodes: NDArray[np.void]) -> NumberedTree:
    """Number the nodes of a tree, in their order."""
    is_leaf = nodes["feature"] < 0
    number = np.where(is_leaf, np.cumsum(is_leaf), np.cumsum(~is_leaf)) - 1
    parent, depth = np.full(len(nodes), -1), np.zeros(len(nodes), np.int64)
    value, count = nodes["value"].copy(), nodes["count"].astype(np.float64)
    splits = np.flatnonzero(~is_leaf)
    children = np.column_stack([nodes["left"], nodes["right"]])
    for split in splits:
        parent[children[split]] = split
        depth[children[split]] = depth[split] + 1
    for split in splits[::-1]:
        below = children[split]
        weight = count[below] if count[below].any() else np.ones(2)
        left, right = weight / weight.sum() * value[below]
        value[split] = left + right  # `@` fuses them on some machines: other bits
    return NumberedTree(nodes, is_leaf, number, parent, depth, value)


def frame_of(
    trees: Iterable[NumberedTree],
    category_sets: Iterable[Sequence[Sequence[Any]]],
    feature_names: Sequence[str],
    missing_type: str,
) -> Any:
    """A pandas DataFrame of the nodes of all trees, with LightGBM's columns."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("trees_to_dataframe needs pandas: pip install pandas.") from error
    return pd.DataFrame(
        [
            record
            for index, (tree, sets) in enumerate(zip(trees, category_sets, strict=True))
            for record in records_of(index, tree, sets, feature_names, missing_type)
        ],
        columns=COLUMNS,
    )


def records_of(
    index: int,
    tree: NumberedTree,
    sets: Sequence[Sequence[Any]],
    feature_names: Sequence[str],
    missing_type: str,
) -> Iterable[tuple[Any, ...]]:
    """A line of the frame for each node. The n-th set goes left in the n-th categorical split."""
    names = tree.names(index)
    set_of = dict(zip(np.flatnonzero(tree.nodes["is_categorical"]).tolist(), sets, strict=True))
    for i in tree.depth_first():
        node, parent = tree.nodes[i], int(tree.parent[i])
        yield (
            index,
            int(tree.depth[i]) + 1,
            names[i],
            *((None, None) if tree.is_leaf[i] else (names[node["left"]], names[node["right"]])),
            names[parent] if parent >= 0 else None,
            *(
                (None,) * 6
                if tree.is_leaf[i]
                else (
                    feature_names[node["feature"]],
                    float(node["gain"]),
                    "||".join(map(str, set_of[i])) if i in set_of else float(node["threshold"]),
                    "==" if i in set_of else "<=",
                    "left" if node["missing_left"] else "right",
                    "NaN" if i in set_of else missing_type,
                )
            ),
            float(tree.value[i]),
            float(node["sum_hessian"]),
            int(node["count"]),
        )
