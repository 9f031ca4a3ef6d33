"""``python -m onnx_unipts``: the command line."""

from onnx_unipts.cli import main

if __name__ == "__main__":
    main(prog_name="onnx-unipts")
