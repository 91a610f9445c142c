# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.

"""Runs the network with ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from functools import cache

import onnxruntime

from ..scene import Array
from ..threads import default_threads
from .package import ModelPackage, ModelPackageError

__all__ = ["OnnxNetwork"]

_INPUT = "channels"
_OUTPUTS = ("boxes", "scores", "masks")


@cache
def _share_memory() -> None:
    """Have operations reuse memory, of which no more is taken than they need.

    Without, each asks the system for its own, which takes a quarter of the time.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = {"arena_extend_strategy": 1}
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(as_requested))


class OnnxNetwork:
    """A `Network` from a package's ``model.onnx``.

    Parameters
    ----------
    package : `ModelPackage`
        Where the network is. It is loaded when it is first used.
    n_threads : `int`, optional
        Threads that an operation is shared among;
        `~lsst.meas.residualdetect.threads.default_threads` where it runs if
        absent.

    Raises
    ------
    ModelPackageError
        Raised if the package lacks the file.
    """

    def __init__(self, package: ModelPackage, n_threads: int | None = None) -> None:
        self._path = package.file("model.onnx")
        self._n_threads = n_threads
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        self._loading = threading.Lock()

    def _session(self) -> onnxruntime.InferenceSession:
        n_threads = self._n_threads or default_threads()
        with self._loading:
            if n_threads not in self._sessions:
                self._sessions[n_threads] = self._load(n_threads)
            return self._sessions[n_threads]

    def _load(self, n_threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that wait sleep. Those that spin are a tenth faster where
        # nothing else runs, and take the cores from what does.
        for kind in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{kind}.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        inputs = [node.name for node in session.get_inputs()]
        outputs = [node.name for node in session.get_outputs()]
        if inputs != [_INPUT] or len(outputs) != len(_OUTPUTS):
            raise ModelPackageError(
                f"{self._path} makes {outputs} of {inputs}; expected {list(_OUTPUTS)} of {[_INPUT]}"
            )
        return session

    def __call__(self, channels: Array) -> tuple[Array, Array, Array]:
        """See `Network`.

        Raises
        ------
        ModelPackageError
            Raised if the file's input and outputs are not those expected.
        """
        options = onnxruntime.RunOptions()
        # What a tile took is the system's again after it.
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        boxes, scores, masks = self._session().run(None, {_INPUT: channels}, options)
        return boxes, scores, masks
