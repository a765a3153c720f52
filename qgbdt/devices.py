"""Where a fit runs, and arrays that lie on a GPU.

Such an array tells of its memory by ``__cuda_array_interface__``, as those of CuPy, PyTorch, Numba
and JAX do. Predictions are made where the rows lie; for all else an array is copied to the host.
"""

import functools
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

import numpy as np

from qgbdt._core import Device, DeviceMatrix
from qgbdt.errors import DataError, DeviceError
from qgbdt.matrices import NATIVE_DTYPES

OR_CPU = "or use device='cpu', which trains the same model."
OR_COPY = "or copy it to the host, with X.get() or X.cpu().numpy()."
WHY_NO_GPU = {
    "no driver": "finds no NVIDIA driver. Install one,",
    "old driver": "needs a newer NVIDIA driver than is installed. Update it,",
    "no gpu": "finds no NVIDIA GPU. Look at nvidia-smi and CUDA_VISIBLE_DEVICES,",
    "old gpu": "needs a GPU of compute capability 8.0 or newer. Use another one,",
}
DLPACK_CUDA = (2, 13)
"""DLPack's numbers of a GPU's own memory, and of memory that it shares with the host."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


def open_device(name: str) -> Device | None:
    """What the core trains on instead of the CPU; None for 'cpu'.

    Raises
    ------
    DeviceError
        If the device is not available.
    """
    return None if name == "cpu" else cuda_device(f"device={name!r}", OR_CPU)


def cuda_device(what: str, otherwise: str) -> Device:
    """The GPU; a DeviceError says what needs it, and what to do otherwise."""
    if find_spec("qgbdt._cuda") is None:
        raise DeviceError(
            f"{what} needs qgbdt's CUDA module, which this build does not have. Build it "
            f"from source where nvcc is (QGBDT_CUDA=1 pip install .), {otherwise}"
        )
    from qgbdt import _cuda

    state = _cuda.state()
    if state != "ready":
        raise DeviceError(f"{what} {WHY_NO_GPU[state]} {otherwise}")
    return _cuda.device()


class GpuArray(NamedTuple):
    """An array that lies on a GPU, as it tells; strides are in bytes."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None

    @classmethod
    def of(cls, values: Any) -> Self | None:
        """None of what does not lie on a GPU."""
        if isinstance(values, np.ndarray):
            return None
        told = getattr(values, "__cuda_array_interface__", None)
        if told is None:
            check_dlpack(values)
            return None
        dtype, shape = np.dtype(told["typestr"]), tuple(told["shape"])
        if told.get("mask") is not None:
            raise DataError("An array on a GPU has a mask. Use NaN for missing values.")
        if dtype.kind not in "biufc":
            raise DataError(f"An array on a GPU must be numeric, got dtype {dtype}.")
        if len(shape) > 2:
            raise DataError(f"An array on a GPU must have 1 or 2 dimensions, got {len(shape)}.")
        return cls(told["data"][0], dtype, shape, told.get("strides"))

    @property
    def is_native_matrix(self) -> bool:
        """Whether the core reads it in place."""
        places = (self.address, *(self.strides or ()))
        is_aligned = not any(place % self.dtype.itemsize for place in places)
        has_rows = len(self.shape) == 2 and 0 not in self.shape
        return has_rows and is_aligned and self.dtype in NATIVE_DTYPES

    def matrix(self) -> DeviceMatrix:
        """All of it, in two dimensions, on a device that reads it."""
        rows, columns, *_ = (*self.shape, 1, 1)
        item = self.dtype.itemsize
        between_rows, between, *_ = (*(self.strides or (columns * item, item)), 0, 0)
        device = cuda_device("An array on a GPU", OR_COPY)
        return DeviceMatrix(
            device, self.address, self.dtype, (rows, columns), (between_rows, between)
        )


def check_dlpack(values: Any) -> None:
    """Raise DeviceError if the values lie on a GPU, and NumPy could not copy them."""
    told = getattr(values, "__dlpack_device__", None)
    if told is not None and told()[0] in DLPACK_CUDA and not hasattr(values, "__array__"):
        raise DeviceError(
            "An array on a GPU has no __cuda_array_interface__, by which qgbdt reads it. Copy it "
            "to the host, with X.get() or X.cpu().numpy()."
        )


def device_matrix(X: Any) -> DeviceMatrix | None:
    """X as the core reads it on a GPU; None if it is to be read on the host."""
    array = GpuArray.of(X)
    if array is None or not array.is_native_matrix:
        return None
    with suppress(DeviceError):  # host_array raises it, or does without
        return array.matrix()
    return None


def host_array(values: Any) -> Any:
    """The values as they are, or a copy of an array that lies on a GPU.

    Raises
    ------
    DeviceError
        If it cannot be copied here.
    """
    array = GpuArray.of(values)
    if array is None:
        return values
    if 0 in array.shape:  # it may have no address
        return np.empty(array.shape, array.dtype)
    try:
        return array.matrix().to_host().reshape(array.shape)
    except DeviceError:
        with suppress(AttributeError, TypeError):
            return values.__array__()  # of JAX and Numba; other libraries refuse
        raise


def arrays_on_host(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Hand a method that trains host copies of the arrays that lie on a GPU: of each, one."""

    @functools.wraps(method)
    def method_on_host(self: S, /, *args: Any, **kwargs: Any) -> T:
        copies: dict[int, Any] = {}

        def copied(values: Any, depth: int = 0) -> Any:
            if depth and type(values) in (list, tuple):
                return type(values)(copied(some, depth - 1) for some in values)
            if id(values) not in copies:
                copies[id(values)] = host_array(values)
            return copies[id(values)]

        named = {
            name: copied(values, 2 if name.startswith("eval_") else 0)  # lists, of pairs
            for name, values in kwargs.items()
        }
        return method(self, *map(copied, args), **named)

    return method_on_host
