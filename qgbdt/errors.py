"""The exceptions of qgbdt.

QGBDTError
├── ParameterError (ValueError)                a parameter outside its allowed values
│   └── UnknownParameterError (TypeError)      a parameter that does not exist: a typo
├── DataError (ValueError)                     X, y, weights or groups that cannot be used
└── DeviceError (RuntimeError)                 a device that this build or machine lacks

ModelFormatError (ValueError)                  bytes that are no sound model

What scikit-learn checks (shapes, NaN in y, sparse or complex X, an unfitted estimator) raises
scikit-learn's own exceptions with scikit-learn's own words.
"""

from qgbdt._core import ModelFormatError

__all__ = [
    "DataError",
    "DeviceError",
    "ModelFormatError",
    "ParameterError",
    "QGBDTError",
    "UnknownParameterError",
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


class DeviceError(QGBDTError, RuntimeError):
    """The requested device is not available; the message says what to do."""
