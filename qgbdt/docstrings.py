"""What docstrings share: a placeholder such as {workers} in one stands for a section below."""

import inspect
from typing import TypeVar

from qgbdt.params import Parametrized, parameters_section

ATTRIBUTES = """\
best_iteration_ : int or None
    With early stopping the iterations of the best model, which ``booster_`` is; else None.
best_score_ : dict
    The metrics of ``booster_``: ``best_score_["valid_0"]["l2"]``.
booster_ : Booster
    The trained model.
evals_result_ : dict
    The metrics after each iteration: ``evals_result_["valid_0"]["l2"]`` is a list. After early
    stopping it is longer than the model by what was trained in vain.
feature_importances_ : ndarray of shape (n_features,)
    Splits per feature, or their gains if ``importance_type='gain'``.
feature_names_in_ : ndarray of shape (n_features,)
    The names of the columns, if X has any that are strings.
fit_profile_ : dict
    Where the time went: ``binning_seconds``, ``training_seconds``, of which
    ``evaluation_seconds`` for metrics and callbacks; on how many threads at most (``n_threads``);
    the most bytes that the process had until then (``peak_memory``, 0 on Windows); and how trees
    grew: ``growth_rounds`` (batches of leaves), ``growth_splits``, and ``growth_expansions``
    (leaves split on trial, those in vain included).
n_features_in_ : int
    The number of columns of X.
n_estimators_, n_iter_ : int
    The iterations of ``booster_``.
objective_ : str
    The loss that was used.
quantization_report_ : dict
    How gradients were rounded: arrays of shape (n_iterations, n_trees_per_iteration), for the trees
    that this fit grew. ``bits``; ``gradient_step`` and ``hessian_step``, what the integer 1 stands
    for; ``gradient_levels`` and ``hessian_levels``, the largest integers (the bits span the bulk,
    outliers run beyond, nothing is cut off); ``gradient_noise`` and ``hessian_noise``, about the
    variance of stochastic rounding as a share of the mean square.
worker_profiles_ : list of dict
    For each worker, by rank, arrays with a value an iteration: ``seconds``, those of them that it
    waited for others (``wait_seconds``), ``exchanges``, ``bytes_sent`` and ``bytes_received``."""

ITERATIONS = """\
start_iteration : int, default=0
    The first iteration whose trees are used.
num_iteration : int, default=None
    How many iterations are used; None means all that follow."""

EXPLANATIONS = """\
pred_leaf : bool, default=False
    Whether to return `apply` instead: the leaf of each row in each tree.
pred_contrib : bool, default=False
    Whether to return what each feature adds to the raw score instead, see
    `Booster.predict_contrib`."""

CONTINUATION = """\
init_model : Booster, fitted estimator or path-like, default=None
    A model to go on from: n_estimators iterations are added to its trees.
checkpoint_dir : path-like, default=None
    Where the trees of each iteration are kept, so that a fit that was interrupted can go on.
    Worker 0 keeps them; others need none.
resume : bool, default=False
    Whether to go on from the checkpoint in checkpoint_dir, if there is one: the model is that of
    a fit that was not interrupted. It must be of this fit: only n_estimators, n_jobs and the
    number of workers may change."""

INIT_SCORE = """\
init_score : array-like of shape (n_samples,) or (n_samples, n_classes), default=None
    Raw predictions to start from, instead of the best constant. The model does not remember them:
    add those of new rows to its raw predictions."""

EVALUATION = """\
eval_set : list of (X, y), default=None
    Rows whose metrics are computed after each iteration. One that is the very X and y of training
    is called "training" and does not stop it early. Of several workers each has its part.
eval_names : list of str, default=None
    Their names; None is "valid_0", "valid_1", ...
eval_sample_weight : list of array-like, default=None
    Their weights.
eval_init_score : list of array-like, default=None
    Their init_score.
eval_metric : str, callable or list of these, default=None
    LightGBM's names; None is the objective's own loss, and NDCG for ranking. Or functions
    ``f(y, prediction[, weight[, group]])`` that return (name, value, is_higher_better) or a list
    of such, which several workers cannot use.
X_val, y_val, sample_weight_val : array-like, default=None
    One evaluation set, instead of eval_set.
groups : array-like of shape (n_samples,), default=None
    For the splitter that validation_fraction is, if it wants groups.
callbacks : list of callables, default=None
    Each is called after each iteration with an `Iteration`, which has LightGBM's fields. A true
    return value ends training."""

DASK_EVALUATION = """\
eval_set : list of (X, y), default=None
    Rows whose metrics are computed after each iteration: Dask Arrays or DataFrames, and Arrays or
    Series, evaluated where they lie by the workers that train. One that is the very X and y of
    training is called "training" and does not stop it early.
eval_names : list of str, default=None
    Their names; None is "valid_0", "valid_1", ...
eval_sample_weight : list of Dask Array or Series, default=None
    Their weights.
eval_metric : str or list of str, default=None
    LightGBM's names; None is the objective's own loss, and NDCG for ranking."""

WORKERS = """\
communicator : Communicator, default=None
    The way to other workers, each of which calls fit with its own rows; see `qgbdt.distributed`.
    The model is that of one worker with all rows, in order of rank.
row_blocks : sequence of (int, int), default=None
    For a worker's rows that lie apart among those of all: the number of each block of its rows,
    and how many rows it has. All rows are then the blocks of all workers, in order of number.
    None is one block, whose number is the rank."""

REFIT_OPTIONS = """\
sample_weight : array-like of shape (n_samples,), default=None
    Weights, not negative.
decay_rate : float, default=0.9
    What is kept of a leaf's value, from 0 to 1; the rest is what the rows say. A leaf that no row
    reaches keeps that share, too, as in LightGBM."""

SECTIONS = {
    "{attributes}": ATTRIBUTES,
    "{iterations}": ITERATIONS,
    "{explanations}": EXPLANATIONS,
    "{continuation}": CONTINUATION,
    "{init_score}": INIT_SCORE,
    "{evaluation}": EVALUATION,
    "{dask_evaluation}": DASK_EVALUATION,
    "{refit_options}": REFIT_OPTIONS,
    "{workers}": WORKERS,
}

T = TypeVar("T")


def documented(item: T) -> T:
    """Fill in the sections that docstrings share, such as {parameters}."""
    text = inspect.cleandoc(item.__doc__ or "")
    if isinstance(item, type) and issubclass(item, Parametrized):
        text = text.replace("{parameters}", parameters_section(item))
    for section, shared in SECTIONS.items():
        text = text.replace(section, shared)
    item.__doc__ = text
    return item
