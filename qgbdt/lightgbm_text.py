"""LightGBM's model files: its text of version 4, written and read.

What is read is only data: every number is parsed and checked, and the native reader of model files
proves the trees that come out. What a qgbdt tree cannot say is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt._core import Model, ModelFormatError
from qgbdt.errors import DataError
from qgbdt.trees import NumberedTree, numbered

WRITTEN = {
    "regression": "regression",
    "l1": "regression_l1",
    "huber": "huber",
    "fair": "fair",
    "quantile": "quantile",
    "mape": "mape",
    "poisson": "poisson",
    "gamma": "gamma",
    "tweedie": "tweedie",
    "cross_entropy": "cross_entropy",
    "binary": "binary sigmoid:1",
    "multiclass": "multiclass num_class:{n_outputs}",
    "multiclassova": "multiclassova num_class:{n_outputs} sigmoid:1",
    "lambdarank": "lambdarank",
    "rank_xendcg": "rank_xendcg",
}
"""Our objectives as LightGBM writes them."""

MULTICLASS = ("multiclass", "multiclassova")

READ = {written.partition(" ")[0]: ours for ours, written in WRITTEN.items()}
"""LightGBM's objectives and ours. One that has none of ours is refused."""

INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
REAL = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)", re.ASCII)

# decision_type of a split, bit by bit.
CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = range(3)

LARGEST_ZERO = float(np.float32(1e-35))
"""Where zero is missing, so are smaller magnitudes."""
LARGEST_NEGATIVE = float(np.nextafter(-LARGEST_ZERO, -np.inf))

MAX_INT32 = 2**31 - 1
LARGEST_REAL = float(np.finfo(np.float64).max)
MOST_NODES = 2**15
"""Of a tree in which zero is missing."""

# --- Writing


def written(model: Model) -> str:
    """The text of a model that LightGBM loads. Base scores stand in the first trees' leaves."""
    if model.objective not in WRITTEN:
        raise DataError(f"LightGBM's files have no objective like {model.objective!r}.")
    if any(values is not None for values in model.categories):
        raise DataError("LightGBM's files do not say what categories are: this model splits some.")
    trees = [model.tree(index) for index in range(model.n_trees)]
    base = model.base_score
    if not trees:
        trees = [one_leaf(model, 0.0) for _ in base]
    for k, score in enumerate(base):
        trees[k] = shifted(trees[k], score)
    blocks = [tree_block(index, numbered(nodes)) for index, nodes in enumerate(trees)]
    used = np.concatenate([nodes["feature"] for nodes in trees])
    counts = np.bincount(used[used >= 0], minlength=model.n_features)
    names = plain_names(model.feature_names)
    objective = WRITTEN[model.objective].format(n_outputs=model.n_outputs)
    header = {
        "version": "v4",
        "num_class": model.n_outputs,
        "num_tree_per_iteration": model.n_outputs,
        "label_index": 0,
        "max_feature_idx": model.n_features - 1,
        "objective": objective,
        "feature_names": " ".join(names),
        "feature_infos": " ".join("[-inf:inf]" if count else "none" for count in counts),
        "tree_sizes": " ".join(str(len(block)) for block in blocks),
    }
    importances = [(name, count) for name, count in zip(names, counts) if count]
    return "".join(
        [
            "tree\n",
            *lines(header),
            "\n",
            *blocks,
            "end of trees\n\nfeature_importances:\n",
            *lines(dict(sorted(importances, key=lambda pair: -pair[1]))),
            f"\nparameters:\n[objective: {objective.partition(' ')[0]}]\nend of parameters\n",
            "\npandas_categorical:null\n",
        ]
    )


def shifted(nodes: NDArray[np.void], by: float) -> NDArray[np.void]:
    nodes = nodes.copy()
    with np.errstate(over="ignore"):
        nodes["value"][nodes["feature"] < 0] += by
    return nodes


def one_leaf(model: Model, value: float) -> NDArray[np.void]:
    nodes = np.zeros(1, Model.node_dtype)
    nodes["feature"], nodes["value"] = -1, value
    return nodes


def tree_block(index: int, tree: NumberedTree) -> str:
    nodes = tree.nodes
    splits, leaves = nodes[~tree.is_leaf], nodes[tree.is_leaf]
    names = np.where(tree.is_leaf, ~tree.number, tree.number)
    fields = {
        "Tree": index,
        "num_leaves": len(leaves),
        "num_cat": 0,
        "split_feature": listed(splits["feature"]),
        "split_gain": listed(splits["gain"]),
        "threshold": listed(splits["threshold"]),
        "decision_type": listed(
            DEFAULT_LEFT * splits["missing_left"] + (MISSING_NAN << MISSING_SHIFT)
        ),
        "left_child": listed(names[splits["left"]]),
        "right_child": listed(names[splits["right"]]),
        "leaf_value": listed(leaves["value"]),
        "leaf_weight": listed(leaves["sum_hessian"]),
        "leaf_count": listed(np.minimum(leaves["count"], MAX_INT32)),
        "internal_value": listed(tree.value[~tree.is_leaf]),
        "internal_weight": listed(splits["sum_hessian"]),
        "internal_count": listed(np.minimum(splits["count"], MAX_INT32)),
        "is_linear": 0,
        "shrinkage": 1,
    }
    return "".join(lines(fields)) + "\n\n"


def lines(fields: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name}={value}\n" for name, value in fields.items())


def listed(values: NDArray[Any]) -> str:
    """Numbers between blanks, each in the fewest digits that read back as the same."""
    return " ".join(map(repr, values.tolist()))


def plain_names(names: Sequence[str]) -> list[str]:
    """Names without what LightGBM's have not, each once."""
    plain = [re.sub(r'[\s",:\[\]{}=\\\x00-\x1f]', "_", name) for name in names]
    doubtful = len(set(plain)) < len(plain) or "" in plain
    return [f"Column_{i}" for i in range(len(plain))] if doubtful else plain


# --- Reading


def read_bytes(data: bytes) -> Model:
    """The model of a LightGBM file; raises ModelFormatError."""
    try:
        return read(data.decode())
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"not a LightGBM model: it is not UTF-8 ({error}).") from None


def read(text: str) -> Model:
    """The model of a LightGBM text; raises ModelFormatError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ModelFormatError(f"not a LightGBM model: it is no text ({error}).") from None
    head, end, _ = text.replace("\r\n", "\n").partition("\nend of trees\n")
    if not head.startswith("tree\n"):
        raise ModelFormatError("not a LightGBM model: it must begin with the line 'tree'.")
    if not end:
        raise ModelFormatError("the LightGBM model has no line 'end of trees': it ends early.")
    first, *rest = re.split(r"^Tree=(.*)\n", head + "\n", flags=re.MULTILINE)
    header = Fields("the header", first.removeprefix("tree\n"), flags=["average_output"])
    if header.text("version") not in ("v3", "v4"):
        raise header.error(f"version={header.text('version')[:40]} is not v3 or v4")
    n_features = header.integer("max_feature_idx", 0) + 1
    names = header.words("feature_names", n_features)
    objective, n_outputs = objective_of(header)
    trees = []
    for index, (number, block) in enumerate(zip(rest[::2], rest[1::2])):
        fields = Fields(f"tree {index}", block)
        if number != str(index):
            raise fields.error(f"it is called Tree={number[:40]}")
        trees.append(nodes_of(fields, n_features))
    if not trees or len(trees) % n_outputs != 0:
        raise header.error(f"{len(trees)} trees are no whole iterations of {n_outputs}")
    if "average_output" in header:
        for nodes in trees:
            nodes["value"] /= len(trees) // n_outputs
    return Model.of_trees(objective, n_outputs, [0.0] * n_outputs, names, trees)


class Fields:
    """Lines of the form name=value, whose values are asked for by name and kind."""

    def __init__(self, what: str, block: str, flags: Sequence[str] = ()) -> None:
        self.what = what
        self.values: dict[str, str] = {}
        for line in filter(None, block.split("\n")):
            name, is_field, value = line.partition("=")
            if name in self.values or not (is_field or name in flags):
                raise self.error(f"the line {line[:40]!r} is out of place")
            self.values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def error(self, problem: str) -> ModelFormatError:
        return ModelFormatError(f"LightGBM model, {self.what}: {problem}.")

    def text(self, name: str) -> str:
        if name not in self:
            raise self.error(f"{name} is missing")
        return self.values[name]

    def words(self, name: str, number: int) -> list[str]:
        words = self.text(name).split(" ") if self.text(name) else []
        if len(words) != number:
            raise self.error(f"{name} has {len(words)} values instead of {number}")
        return words

    def integer(self, name: str, low: int, high: int = MAX_INT32) -> int:
        return int(self.integers(name, 1, low, high)[0])

    def integers(self, name: str, number: int, low: int, high: int) -> NDArray[np.int64]:
        values = self._parsed(name, number, INTEGER, np.int64)
        if number and (values.min() < low or values.max() > high):
            raise self.error(f"{name} has a value out of the range [{low}, {high}]")
        return values

    def reals(self, name: str, number: int, largest: float = LARGEST_REAL) -> NDArray[np.float64]:
        values = self._parsed(name, number, REAL, np.float64)
        if not (np.abs(values) <= largest).all():
            raise self.error(f"{name} has a value that is not a finite number")
        return values

    def _parsed(self, name: str, number: int, pattern: re.Pattern[str], dtype: Any) -> NDArray[Any]:
        words = self.words(name, number)
        for word in words:
            if not pattern.fullmatch(word):
                raise self.error(f"{name} has the value {word[:40]!r}")
        return np.array(words, dtype=dtype)


def objective_of(header: Fields) -> tuple[str, int]:
    """Our objective with the link of the model's, and the number of outputs."""
    n_outputs = header.integer("num_class", 1)
    if header.integer("num_tree_per_iteration", 1) != n_outputs:
        raise header.error("num_tree_per_iteration is not num_class")
    # Without one it was a function of its user, who knows the link.
    words = header.values.get("objective", "regression").split(" ")
    name, *options = words
    ours = READ.get(name)
    refused = set(options) - {"sigmoid:1", f"num_class:{n_outputs}"}
    if ours is None or refused or (ours in MULTICLASS) != (n_outputs > 1):
        raise header.error(
            f"qgbdt has no link for the objective {' '.join(words)[:60]!r} of {n_outputs} outputs"
        )
    return ours, n_outputs


def nodes_of(fields: Fields, n_features: int) -> NDArray[np.void]:
    """The nodes of a tree: its splits in their order, then its leaves in theirs."""
    n_leaves = fields.integer("num_leaves", 1)
    n_splits = n_leaves - 1
    if "is_linear" in fields and fields.integer("is_linear", 0, 1):
        raise fields.error("it is linear (linear_tree=true), which qgbdt's trees are not")
    values = fields.reals("leaf_value", n_leaves)  # so that there are as many as num_leaves says
    if n_leaves == 1:
        return leaf_nodes(fields, values)
    decisions = fields.integers("decision_type", n_splits, 0, 15)
    if fields.integer("num_cat", 0) or (decisions & CATEGORICAL).any():
        raise fields.error("it has categorical splits, which qgbdt does not read")
    missing = decisions >> MISSING_SHIFT
    if (missing > MISSING_NAN).any():
        raise fields.error("decision_type has an unknown kind of missing values")
    nodes = np.zeros(n_splits + n_leaves, Model.node_dtype)
    splits, nodes[n_splits:] = nodes[:n_splits], leaf_nodes(fields, values)
    splits["feature"] = fields.integers("split_feature", n_splits, 0, n_features - 1)
    splits["threshold"] = fields.reals("threshold", n_splits, np.inf)
    splits["gain"] = np.maximum(fields.reals("split_gain", n_splits), 0)
    splits["missing_left"] = np.where(
        missing == MISSING_NONE,  # NaN is zero then
        splits["threshold"] >= 0,
        decisions & DEFAULT_LEFT != 0,
    )
    if "internal_count" in fields:
        splits["count"] = fields.integers("internal_count", n_splits, 0, MAX_INT32)
    if "internal_weight" in fields:
        splits["sum_hessian"] = np.maximum(fields.reals("internal_weight", n_splits), 0)
    for side in ("left", "right"):
        child = fields.integers(f"{side}_child", n_splits, -n_leaves, n_splits - 1)
        splits[side] = np.where(child < 0, n_splits + ~child, child)
    children = np.sort(np.concatenate([splits["left"], splits["right"]]))
    after = np.minimum(splits["left"], splits["right"]) > np.arange(n_splits)
    if not after.all() or (children != np.arange(1, len(nodes))).any():
        raise fields.error("left_child and right_child make no tree")
    return without_zero_splits(nodes, np.flatnonzero(missing == MISSING_ZERO), fields)


def leaf_nodes(fields: Fields, values: NDArray[np.float64]) -> NDArray[np.void]:
    leaves = np.zeros(len(values), Model.node_dtype)
    leaves["feature"] = leaves["left"] = leaves["right"] = -1
    leaves["value"] = values
    if fields.values.get("leaf_count"):
        leaves["count"] = fields.integers("leaf_count", len(values), 0, MAX_INT32)
    if fields.values.get("leaf_weight"):
        leaves["sum_hessian"] = np.maximum(fields.reals("leaf_weight", len(values)), 0)
    return leaves


# --- Splits where zero is missing: smaller magnitudes than LARGEST_ZERO go with the missing values


@dataclass(frozen=True)
class Cut:
    """A split to be made: its children are nodes of the tree that is read, or more cuts."""

    node: int  # whose feature it cuts
    threshold: float
    missing_left: bool
    left: "int | Cut"
    right: "int | Cut"
    left_is_zero: bool | None = None  # whether what goes left is known to be zero, or not to be
    right_is_zero: bool | None = None


def without_zero_splits(
    nodes: NDArray[np.void], zero_splits: NDArray[np.intp], fields: Fields
) -> NDArray[np.void]:
    """The same tree of splits where only NaN is missing; some take several, and copies below."""
    wide = []
    for i in zero_splits:
        left, threshold = bool(nodes["missing_left"][i]), nodes["threshold"][i]
        if threshold < LARGEST_NEGATIVE if left else threshold > LARGEST_ZERO:
            wide.append(int(i))  # zero does not go where its neighbours go
        elif threshold >= LARGEST_NEGATIVE and not (left and threshold > LARGEST_ZERO):
            nodes["threshold"][i] = LARGEST_ZERO if left else LARGEST_NEGATIVE
    return expanded(nodes, frozenset(wide), fields) if wide else nodes


def expanded(nodes: NDArray[np.void], wide: frozenset[int], fields: Fields) -> NDArray[np.void]:
    """The tree with three-way cuts, at zero, instead of the wide splits."""
    made: list[np.void] = []
    todo: list[tuple[int | Cut, int, str, dict[int, bool]]] = [(0, -1, "", {})]
    while todo:
        at, parent, side, is_zero = todo.pop()
        if isinstance(at, int) and at in wide:
            at = cut_at_zero(nodes, at, is_zero.get(int(nodes["feature"][at])))
            if isinstance(at, int):
                todo.append((at, parent, side, is_zero))
                continue
        node = nodes[at.node if isinstance(at, Cut) else at].copy()
        if parent >= 0:
            made[parent][side] = len(made)
        if node["feature"] >= 0:
            feature = int(node["feature"])
            if isinstance(at, Cut):
                node["threshold"], node["missing_left"] = at.threshold, at.missing_left
                below = [(at.right, at.right_is_zero), (at.left, at.left_is_zero)]
            else:
                below = [(int(node["right"]), None), (int(node["left"]), None)]
            for (child, zero), to in zip(below, ("right", "left")):
                known = is_zero if zero is None else {**is_zero, feature: zero}
                todo.append((child, len(made), to, known))
        made.append(node)
        if len(made) > MOST_NODES:
            raise fields.error(
                f"with zero_as_missing=true it takes more than {MOST_NODES} splits of qgbdt, for "
                "which only NaN is missing. Train with zero_as_missing=false"
            )
    return np.array(made, Model.node_dtype)


def cut_at_zero(nodes: NDArray[np.void], at: int, is_zero: bool | None) -> int | Cut:
    """A wide split, of a feature that may be known to be zero or not."""
    node = nodes[at]
    left, right, threshold = int(node["left"]), int(node["right"]), float(node["threshold"])
    missing_left = bool(node["missing_left"])
    if is_zero:
        return left if missing_left else right
    plain = Cut(at, threshold, missing_left, left, right)
    if is_zero is not None:
        return plain
    negative, zero, positive = (plain, left, right) if missing_left else (left, right, plain)
    not_negative = Cut(at, LARGEST_ZERO, True, zero, positive, True, False)
    return Cut(at, LARGEST_NEGATIVE, False, negative, not_negative, False)
