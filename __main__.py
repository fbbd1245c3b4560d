"""``python -m onnxkiln`` is the command line program."""

from .cli import program

if __name__ == "__main__":
    raise SystemExit(program())
