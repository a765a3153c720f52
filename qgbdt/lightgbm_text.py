"""LightGBM's model files: its text of version 4, written and read.

What is read is only data: every number is parsed and checked, and the native reader of model files
proves the trees that come out. What a qgbdt tree cannot say is refused.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt._core import LARGEST_ZERO, Model, ModelFormatError
from qgbdt.categories import Values, as_category
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

LARGEST_NEGATIVE = float(np.nextafter(-LARGEST_ZERO, -np.inf))

MAX_INT32 = 2**31 - 1
WORD = 32
"""Categories of a word of LightGBM's bit sets, which begin at category 0."""
LARGEST_CATEGORY = 2**20 - 1
"""Larger ones would make long bit sets."""
MOST_CATEGORIES = 255
"""Of a feature."""
LARGEST_REAL = float(np.finfo(np.float64).max)
MOST_NODES = 2**15
"""Of a tree in which zero is missing, but not everywhere."""

# --- Writing


def written(model: Model) -> str:
    """The text of a model that LightGBM loads. Base scores stand in the first trees' leaves."""
    if model.objective not in WRITTEN:
        raise DataError(f"LightGBM's files have no objective like {model.objective!r}.")
    if model.n_outputs > 1 and model.objective not in MULTICLASS:
        raise DataError(
            f"LightGBM's files have one target, this model has {model.n_outputs}. Train one for "
            "each."
        )
    categories, lists = numbered_categories(model)
    missing = MISSING_ZERO if model.zero_is_missing else MISSING_NAN
    trees = [model.tree(index) for index in range(model.n_trees)]
    sets = [model.category_sets(index) for index in range(model.n_trees)]
    linear = [model.linear_leaves(index) for index in range(model.n_trees)]
    base = model.base_score.tolist()
    if not trees:
        trees, sets = [one_leaf(model, 0.0) for _ in base], [[] for _ in base]
        linear = [[] for _ in base]
    for k, score in enumerate(base):
        trees[k] = shifted(trees[k], score)
        linear[k] = [(constant + score, terms) for constant, terms in linear[k]]
    blocks = [
        tree_block(
            index,
            numbered(nodes),
            CategorySplits.of(nodes, of_tree, categories),
            missing,
            leaves,
        )
        for index, (nodes, of_tree, leaves) in enumerate(zip(trees, sets, linear, strict=True))
    ]
    used = np.concatenate([nodes["feature"] for nodes in trees])
    counts = np.bincount(used[used >= 0], minlength=model.n_features)
    infos = [
        "none" if not count else ":".join(map(str, categories.get(feature, []))) or "[-inf:inf]"
        for feature, count in enumerate(counts)
    ]
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
        "feature_infos": " ".join(infos),
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
            f"\nparameters:\n[objective: {objective.partition(' ')[0]}]\n",
            f"[categorical_feature: {','.join(map(str, categories))}]\n" if lists else "",
            f"end of parameters\n\npandas_categorical:{json.dumps(lists)}\n",
        ]
    )


def numbered_categories(model: Model) -> tuple[dict[int, list[int]], list[list[Any]] | None]:
    """LightGBM's numbers of the categories of each feature that has some.

    If all are whole numbers, these are they. Else they are places in lists of pandas' categories,
    of each such feature one.
    """
    found: dict[int, list[Any]] = {
        feature: [int(value) if is_whole(value) else value for value in values]
        for feature, values in enumerate(model.categories)
        if values is not None
    }
    if all(is_whole(v) and 0 <= v <= LARGEST_CATEGORY for some in found.values() for v in some):
        return found, None
    return {f: list(range(len(values))) for f, values in found.items()}, [*found.values()]


def is_whole(value: Any) -> bool:
    return not isinstance(value, str) and value % 1 == 0


@dataclass(frozen=True)
class CategorySplits:
    """What LightGBM says of a tree's categorical splits. What is no category goes right there."""

    nodes: NDArray[np.intp]
    swapped: NDArray[np.intp]  # of these, those whose children change places
    sets: list[NDArray[np.int64]]  # of each: the categories that go left then

    @classmethod
    def of(
        cls,
        nodes: NDArray[np.void],
        codes: Sequence[Sequence[int]],
        categories: Mapping[int, Sequence[int]],
    ) -> "CategorySplits":
        splits = np.flatnonzero(nodes["is_categorical"])
        swaps = nodes["missing_left"][splits]
        sets = []
        for feature, of_split, swap in zip(nodes["feature"][splits].tolist(), codes, swaps):
            goes_left = np.isin(np.arange(len(categories[feature])), of_split)
            sets.append(np.array(categories[feature], np.int64)[goes_left != swap])
        return cls(splits, splits[swaps], sets)

    def fields(self) -> dict[str, Any]:
        """The bit sets of a tree, one after the other."""
        words = [words_of(some) for some in self.sets]
        if not words:
            return {}
        ends = np.cumsum([0, *map(len, words)])
        return {"cat_boundaries": listed(ends), "cat_threshold": listed(np.concatenate(words))}


def words_of(categories: NDArray[np.int64]) -> NDArray[np.int64]:
    """A bit for each; at least one word."""
    words = np.zeros(categories.max(initial=0) // WORD + 1, np.int64)
    np.bitwise_or.at(words, categories // WORD, 1 << categories % WORD)
    return words


def shifted(nodes: NDArray[np.void], by: float) -> NDArray[np.void]:
    nodes = nodes.copy()
    with np.errstate(over="ignore"):
        nodes["value"][nodes["feature"] < 0] += by
    return nodes


def one_leaf(model: Model, value: float) -> NDArray[np.void]:
    nodes = np.zeros(1, Model.node_dtype)
    nodes["feature"], nodes["value"] = -1, value
    return nodes


LinearLeaves = list[tuple[float, list[tuple[int, float]]]]
"""Of each leaf the constant, and the coefficients of features; or of none."""


def linear_fields(leaves: LinearLeaves, values: NDArray[np.float64]) -> dict[str, Any]:
    """What LightGBM says of a tree's linear leaves; those without coefficients have values."""
    if not leaves:
        return {"is_linear": 0}
    constants = [
        constant if terms else value
        for (constant, terms), value in zip(leaves, values.tolist(), strict=True)
    ]
    columns: list[str] = []
    for place in (0, 1):
        numbers = [" ".join(repr(term[place]) for term in terms) for _, terms in leaves]
        columns.append("".join(f"{some}  " if some else " " for some in numbers))
    return {
        "is_linear": 1,
        "leaf_const": " ".join(map(repr, constants)),
        "num_features": " ".join(str(len(terms)) for _, terms in leaves),
        "leaf_features": columns[0],
        "leaf_coeff": columns[1],
    }


def tree_block(
    index: int,
    tree: NumberedTree,
    categorical: CategorySplits,
    missing: int,
    linear: LinearLeaves,
) -> str:
    nodes = tree.nodes.copy()
    swapped = nodes[categorical.swapped]
    nodes["left"][categorical.swapped] = swapped["right"]
    nodes["right"][categorical.swapped] = swapped["left"]
    nodes["missing_left"][categorical.nodes] = False
    splits, leaves = nodes[~tree.is_leaf], nodes[tree.is_leaf]
    names = np.where(tree.is_leaf, ~tree.number, tree.number)
    fields = {
        "Tree": index,
        "num_leaves": len(leaves),
        "num_cat": len(categorical.sets),
        "split_feature": listed(splits["feature"]),
        "split_gain": listed(splits["gain"]),
        "threshold": listed(splits["threshold"]),
        "decision_type": listed(
            CATEGORICAL * splits["is_categorical"]
            + DEFAULT_LEFT * splits["missing_left"]
            + (np.where(splits["is_categorical"], MISSING_NAN, missing) << MISSING_SHIFT)
        ),
        "left_child": listed(names[splits["left"]]),
        "right_child": listed(names[splits["right"]]),
        **categorical.fields(),
        "leaf_value": listed(leaves["value"]),
        "leaf_weight": listed(leaves["sum_hessian"]),
        "leaf_count": listed(np.minimum(leaves["count"], MAX_INT32)),
        "internal_value": listed(tree.value[~tree.is_leaf]),
        "internal_weight": listed(splits["sum_hessian"]),
        "internal_count": listed(np.minimum(splits["count"], MAX_INT32)),
        **linear_fields(linear, leaves["value"]),
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
    head, end, tail = text.replace("\r\n", "\n").partition("\nend of trees\n")
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
    trees, sets, blocks, missing = [], [], [], []
    for index, (number, block) in enumerate(zip(rest[::2], rest[1::2])):
        fields = Fields(f"tree {index}", block)
        if number != str(index):
            raise fields.error(f"it is called Tree={number[:40]}")
        nodes, kinds = nodes_of(fields, n_features)
        trees.append(nodes)
        missing.append(kinds)
        sets.append(sets_of(fields))
        blocks.append(fields)
    if not trees or len(trees) % n_outputs != 0:
        raise header.error(f"{len(trees)} trees are no whole iterations of {n_outputs}")
    met = {int(kind) for kinds in missing for kind in np.unique(kinds)}
    are_linear = any(map(is_linear, blocks))  # in numbers, zero among them
    zero_is_missing = MISSING_ZERO in met and MISSING_NAN not in met and not are_linear
    if not zero_is_missing:
        trees = [
            without_zero_splits(nodes, np.flatnonzero(kinds == MISSING_ZERO), fields)
            for nodes, kinds, fields in zip(trees, missing, blocks)
        ]
    linear = [linear_leaves_of(fields, n_features, nodes) for fields, nodes in zip(blocks, trees)]
    if "average_output" in header:
        n_iterations = len(trees) // n_outputs
        for nodes in trees:
            nodes["value"] /= n_iterations
        linear = [divided(leaves, n_iterations) for leaves in linear]
    categories = categories_of(header, tail, n_features, trees, sets)
    codes = [codes_of(nodes, of_tree, categories) for nodes, of_tree in zip(trees, sets)]
    base = [0.0] * n_outputs
    values = [None if some is None else some.values for some in categories]
    return Model.of_trees(
        objective, n_outputs, base, names, trees, values, codes, linear, zero_is_missing
    )


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


def nodes_of(fields: Fields, n_features: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The nodes of a tree: its splits in their order, then its leaves in theirs.

    And what is missing in each split that is numerical.
    """
    n_leaves = fields.integer("num_leaves", 1)
    n_splits = n_leaves - 1
    values = fields.reals("leaf_value", n_leaves)  # so that there are as many as num_leaves says
    if n_leaves == 1:
        return leaf_nodes(fields, values), np.zeros(0, np.int64)
    decisions = fields.integers("decision_type", n_splits, 0, 15)
    is_categorical = decisions & CATEGORICAL != 0
    missing = decisions >> MISSING_SHIFT
    if (missing > MISSING_NAN).any():
        raise fields.error("decision_type has an unknown kind of missing values")
    nodes = np.zeros(n_splits + n_leaves, Model.node_dtype)
    splits, nodes[n_splits:] = nodes[:n_splits], leaf_nodes(fields, values)
    splits["feature"] = fields.integers("split_feature", n_splits, 0, n_features - 1)
    splits["threshold"] = fields.reals("threshold", n_splits, np.inf)
    splits["gain"] = np.maximum(fields.reals("split_gain", n_splits), 0)
    splits["missing_left"] = ~is_categorical & np.where(
        missing == MISSING_NONE,  # NaN is zero then, and all zeros go one way
        splits["threshold"] >= 0,
        decisions & DEFAULT_LEFT != 0,
    )
    splits["is_categorical"] = is_categorical
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
    return nodes, np.where(is_categorical, MISSING_NONE, missing)


def sets_of(fields: Fields) -> list[NDArray[np.int64]]:
    """The categories of each bit set of a tree."""
    n_sets = fields.integer("num_cat", 0) if "num_cat" in fields else 0
    if n_sets == 0:
        return []
    ends = fields.integers("cat_boundaries", n_sets + 1, 0, MAX_INT32)
    if ends[0] != 0 or (np.diff(ends) < 0).any():
        raise fields.error("cat_boundaries does not ascend from 0")
    words = fields.integers("cat_threshold", int(ends[-1]), 0, 2**WORD - 1)
    bits = words[:, None] >> np.arange(WORD) & 1 != 0
    return [np.flatnonzero(bits[begin:end]) for begin, end in itertools.pairwise(ends)]


SEEN_CATEGORIES = re.compile(r"-?\d{1,9}(:-?\d{1,9})*", re.ASCII)
CATEGORICAL_FEATURES = re.compile(r"^\[categorical_feature: (\d{1,9}(?:,\d{1,9})*)\]$", re.M | re.A)
PANDAS_CATEGORICAL = re.compile(r"^pandas_categorical:(.+)$", re.M)


@dataclass(frozen=True)
class ReadCategories:
    """A feature's categories, ascending, and the place there of each of LightGBM's numbers."""

    values: Values
    places: Mapping[int, int]

    @classmethod
    def of(cls, value_of: Mapping[int, Any]) -> "ReadCategories":
        ascending = sorted(value_of, key=lambda number: value_of[number])
        places = {number: place for place, number in enumerate(ascending)}
        return cls([value_of[number] for number in ascending], places)


def categories_of(
    header: Fields,
    tail: str,
    n_features: int,
    trees: Sequence[NDArray[np.void]],
    sets: Sequence[Sequence[NDArray[np.int64]]],
) -> list[ReadCategories | None]:
    """Each feature's categories, if it has some: those in its splits, and those in training."""
    found: dict[int, set[int]] = {}
    for nodes, of_tree in zip(trees, sets):
        for node in nodes[nodes["is_categorical"]]:
            if not (0 <= node["threshold"] < len(of_tree)) or node["threshold"] % 1:
                raise header.error("a categorical split has a threshold that is none of its sets")
            found.setdefault(int(node["feature"]), set()).update(of_tree[int(node["threshold"])])
    infos = header.values.get("feature_infos", "").split(" ")
    infos = infos if len(infos) == n_features else [""] * n_features
    seen = {
        feature: {int(value) for value in info.split(":")} - {-1}
        for feature, info in enumerate(infos)
        if SEEN_CATEGORIES.fullmatch(info)
    }
    lists = lists_of(tail, n_features, sorted(seen))
    for feature, listed in lists.items():
        met = found.setdefault(feature, set()) | seen.get(feature, set())
        seen[feature] = set(range(len(listed)))
        if not met <= seen[feature]:
            raise header.error(
                f"feature {feature} has the category {max(met)}, but its list in "
                f"pandas_categorical has {len(listed)} values"
            )
    for feature, values in found.items():
        more = values | seen.get(feature, set())
        found[feature] = more if len(more) <= MOST_CATEGORIES else values
        if len(found[feature]) > MOST_CATEGORIES:
            raise header.error(
                f"feature {feature} is split by {len(found[feature])} categories, of which qgbdt "
                f"has {MOST_CATEGORIES} at most"
            )
    categories: list[ReadCategories | None] = [None] * n_features
    for feature, values in found.items():
        value_of: Any = lists[feature].__getitem__ if feature in lists else float
        categories[feature] = ReadCategories.of({number: value_of(number) for number in values})
    return categories


def lists_of(tail: str, n_features: int, seen: Sequence[int]) -> dict[int, Sequence[Any]]:
    """The lists of pandas' categories in which LightGBM's categories are places, by feature.

    They are of the columns that were categories, in their order. Which these are no line says: it
    is taken that they are the categorical features, which the parameters name. Where they do not,
    training saw categories of those of `seen`.
    """
    line, found = PANDAS_CATEGORICAL.search(tail), CATEGORICAL_FEATURES.search(tail)
    end = Fields("pandas_categorical", "")
    try:
        lists = json.loads(line[1]) if line else None
    except (ValueError, RecursionError):
        raise end.error("it is not JSON") from None
    if not lists:
        return {}
    if not isinstance(lists, list) or not all(isinstance(values, list) for values in lists):
        raise end.error("it is not a list of lists")
    named = {int(number) for number in found[1].split(",")} if found else set(seen)
    owners = sorted(named & set(range(n_features)))
    if len(owners) != len(lists):
        raise end.error(
            f"it has {len(lists)} lists, but {len(owners)} features have categories, so that "
            "nothing says whose each is. Without that line, categories are the numbers that "
            "pandas gives them"
        )
    return {f: pandas_values(end, f, listed) for f, listed in zip(owners, lists)}


def pandas_values(end: Fields, feature: int, listed: Sequence[Any]) -> list[Any]:
    """Categories in pandas' order, as qgbdt keeps them."""
    try:
        values = [as_category(value, str(feature)) for value in listed]
    except (DataError, OverflowError):
        values = []
    kinds = {type(value) for value in values}
    if len(set(values)) < len(listed) or len(kinds) > 1:
        raise end.error(
            f"the list of feature {feature} must hold strings, or numbers of magnitudes up to "
            "2**53, each once"
        )
    return values


def codes_of(
    nodes: NDArray[np.void],
    sets: Sequence[NDArray[np.int64]],
    categories: Sequence[ReadCategories | None],
) -> list[list[int]]:
    """What goes left in each categorical split, which gets a set of its own."""
    splits = np.flatnonzero(nodes["is_categorical"])
    codes = []
    for feature, number in zip(nodes["feature"][splits], nodes["threshold"][splits].astype(int)):
        of_feature = categories[feature]
        assert of_feature is not None  # categories_of has those of each split
        codes.append([of_feature.places[category] for category in sets[number].tolist()])
    nodes["threshold"][splits] = np.arange(len(splits))
    return codes


def is_linear(fields: Fields) -> bool:
    return "is_linear" in fields and fields.integer("is_linear", 0, 1) == 1


def linear_leaves_of(fields: Fields, n_features: int, nodes: NDArray[np.void]) -> LinearLeaves:
    """The linear models of a tree's leaves."""
    if not is_linear(fields):
        return []
    leaves = np.flatnonzero(nodes["feature"] < 0)
    number = nodes["threshold"][leaves].astype(int)  # see leaf_nodes
    n_leaves = fields.integer("num_leaves", 1)
    constants = fields.reals("leaf_const", n_leaves)
    counts = fields.integers("num_features", n_leaves, 0, n_features)
    for name in ("leaf_features", "leaf_coeff"):  # there are more blanks between leaves
        fields.values[name] = " ".join(filter(None, fields.text(name).split(" ")))
    n_terms, ends = int(counts.sum()), np.cumsum(counts)
    features = fields.integers("leaf_features", n_terms, 0, n_features - 1).tolist()
    coefficients = fields.reals("leaf_coeff", n_terms).tolist()
    found: LinearLeaves = []
    for leaf, constant in enumerate(constants.tolist()):
        own = slice(int(ends[leaf] - counts[leaf]), int(ends[leaf]))
        if any(a >= b for a, b in itertools.pairwise(features[own])):
            raise fields.error("leaf_features has features of a leaf that do not ascend")
        found.append((constant, list(zip(features[own], coefficients[own]))))
    constant_ones = counts[number] == 0
    nodes["value"][leaves[constant_ones]] = constants[number[constant_ones]]
    return [found[leaf] for leaf in number]


def divided(leaves: LinearLeaves, by: int) -> LinearLeaves:
    return [(constant / by, [(f, c / by) for f, c in terms]) for constant, terms in leaves]


def leaf_nodes(fields: Fields, values: NDArray[np.float64]) -> NDArray[np.void]:
    """Leaves whose thresholds, of which they have no use, are their numbers."""
    leaves = np.zeros(len(values), Model.node_dtype)
    leaves["threshold"] = np.arange(len(values))
    leaves["feature"] = leaves["left"] = leaves["right"] = -1
    leaves["value"] = values
    if fields.values.get("leaf_count"):
        leaves["count"] = fields.integers("leaf_count", len(values), 0, MAX_INT32)
    if fields.values.get("leaf_weight"):
        leaves["sum_hessian"] = np.maximum(fields.reals("leaf_weight", len(values)), 0)
    return leaves


# --- Splits where zero is missing, though not in all trees (one was trained on from another)


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
                f"zero is missing in some splits of the model, but not in all. That takes more "
                f"than {MOST_NODES} splits of qgbdt. Train all trees with the same zero_as_missing"
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
