"""Running onnxsim in a process of its own: it prints, and dies on some graphs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

__all__ = ["run_onnxsim"]

SECONDS = 600

# Passes that fold weights away or compute them in the graph, that put in operators without a
# gradient where there were ones with a gradient, and fuse_pad_into_pool, which changes what a
# pooling behind a Pad computes.
SKIPPED = (
    "fuse_add_bias_into_conv",
    "fuse_bn_into_conv",
    "fuse_attention",
    "fuse_gelu",
    "fuse_gqa",
    "fuse_layer_norm",
    "fuse_lp_normalization",
    "fuse_qkv",
    "fuse_rms_norm",
    "fuse_rope",
    "fuse_pad_into_pool",
)

_SCRIPT = """
import sys
import onnx, onnxsim
before, after, optimize, *skipped = sys.argv[1:]
model, _ = onnxsim.simplify(
    onnx.load(before), perform_optimization=optimize == "True", skipped_optimizers=skipped
)
onnx.save(model, after)
"""


def run_onnxsim(model: onnx.ModelProto, optimize: bool) -> onnx.ModelProto:
    """Return ``model`` simplified; without ``optimize`` constants are folded and no more.

    Raises `RuntimeError` with the last line that onnxsim wrote where it fails, dies, or takes more
    than ten minutes.
    """
    with tempfile.TemporaryDirectory() as directory:
        before, after = Path(directory, "before.onnx"), Path(directory, "after.onnx")
        before.write_bytes(model.SerializeToString())
        command = [sys.executable, "-c", _SCRIPT, str(before), str(after), str(optimize), *SKIPPED]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"onnxsim took more than {SECONDS} seconds") from error
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise RuntimeError(f"onnxsim failed ({done.returncode}): {' '.join(lines[-1:])}")
        return onnx.ModelProto.FromString(after.read_bytes())
