"""Where a fit runs."""

from importlib.util import find_spec

from qgbdt._core import Device
from qgbdt.errors import DeviceError

OR_CPU = "or use device='cpu', which trains the same model."
WHY_NO_GPU = {
    "no driver": "finds no NVIDIA driver. Install one,",
    "old driver": "needs a newer NVIDIA driver than is installed. Update it,",
    "no gpu": "finds no NVIDIA GPU. Look at nvidia-smi and CUDA_VISIBLE_DEVICES,",
    "old gpu": "needs a GPU of compute capability 8.0 or newer. Use another one,",
}


def open_device(name: str) -> Device | None:
    """What the core trains on instead of the CPU; None for 'cpu'.

    Raises
    ------
    DeviceError
        If the device is not available.
    """
    if name == "cpu":
        return None
    if find_spec("qgbdt._cuda") is None:
        raise DeviceError(
            "device='cuda' needs qgbdt's CUDA module, which this build does not have. Build it "
            f"from source where nvcc is (QGBDT_CUDA=1 pip install .), {OR_CPU}"
        )
    from qgbdt import _cuda

    state = _cuda.state()
    if state != "ready":
        raise DeviceError(f"device='cuda' {WHY_NO_GPU[state]} {OR_CPU}")
    return _cuda.device()
