"""The exceptions of qgbdt::

    QGBDTError
    ├── ParameterError (ValueError)                a parameter outside its allowed values
    │   └── UnknownParameterError (TypeError)      a parameter that does not exist: a typo
    ├── DataError (ValueError)                     X, y, weights or groups that cannot be used
    ├── CheckpointError (ValueError)               a checkpoint that cannot be gone on from
    ├── DeviceError (RuntimeError)                 a device that this build or machine lacks
    └── DistributedError (RuntimeError)            workers that do not find each other, or differ
        └── DisagreementError (ValueError)         workers that were told different things

    ModelFormatError (ValueError)                  bytes that are no sound model
    WorkerLost (ConnectionError)                   another worker of a fit stopped or is gone

What scikit-learn checks (shapes, NaN in y, complex X, an unfitted estimator) raises
scikit-learn's own exceptions with scikit-learn's own words.
"""

from qgbdt._core import ModelFormatError, WorkerLost

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceError",
    "DisagreementError",
    "DistributedError",
    "ModelFormatError",
    "ParameterError",
    "QGBDTError",
    "UnknownParameterError",
    "WorkerLost",
]


class QGBDTError(Exception):
    """Base of the exceptions that qgbdt's Python code raises."""


class ParameterError(QGBDTError, ValueError):
    """A parameter has a value outside its allowed range or type."""


class UnknownParameterError(ParameterError, TypeError):
    """A parameter does not exist; the message names the nearest one that does.

    A TypeError, as Python raises for unknown arguments, and a ValueError, as scikit-learn's
    ``set_params`` raises.
    """


class DataError(QGBDTError, ValueError):
    """The data cannot be trained or predicted on; the message says which part and why."""


class CheckpointError(QGBDTError, ValueError):
    """A checkpoint is in the way, of another fit, or none; the message says which and why."""


class DeviceError(QGBDTError, RuntimeError):
    """The requested device is not available; the message says what to do."""


class DistributedError(QGBDTError, RuntimeError):
    """Workers do not find each other, do not let each other in, or do not get the same results.

    The message says who and why.
    """


class DisagreementError(DistributedError, ValueError):
    """Workers have different parameters or data; the message names a worker, what, and both values.

    All workers raise the same error.
    """
