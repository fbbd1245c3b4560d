# Everything runs in .venv, made on first use. PYTHON picks the interpreter (3.11 to 3.13), VENV another folder.
# Paths are relative on purpose: the checkout may lie in a folder whose name make or a shell would trip over.
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
RUN := "$(VENV)/bin/python"
STAMP := $(VENV)/.installed
THREADS ?= 1
LOG ?= build/tuning.sqlite

.PHONY: gpu-check help env test lint format demo zoo zoo-extended conformance bench bench-tuned accuracy clean
help:
	@echo "make demo    compile a real text recogniser and read a picture with it"
	@echo "make test    lint, then run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make zoo     compile eight real models and compare each with ONNX Runtime (downloads about 330 MB once)"
	@echo "make zoo-extended   the same with a larger set: recurrent, quantized, audio, detection (about 300 MB more)"
	@echo "make conformance   run ONNX's own tests, 2033 of them"
	@echo "make gpu-check   compile twelve models for NVIDIA's GPUs; run and compare them where there is one"
	@echo "make bench   measure twelve models beside ONNX Runtime, OpenVINO and tract, and the machine's limits (THREADS=1)"
	@echo "make bench-tuned   tune the twelve for 60 s each (LOG=build/tuning.sqlite), then measure tuned beside untuned ones"
	@echo "make accuracy   what int8 costs on pictures, lines of text and sentences, beside ONNX Runtime's quantizer"
	@echo "make clean   remove build products; .venv stays"

# The stamp holds the folder's path: the environment of a checkout that was moved or copied is installed anew.
ifneq ($(shell [ "$$(cat '$(STAMP)' 2>/dev/null)" = "$$(pwd -P)" ] && echo same),same)
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "onnxkiln needs Python 3.11, 3.12 or 3.13: none was found; name one with make PYTHON=..." >&2; exit 1; }
	$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv "$(VENV)"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[compile,cuda,dev]'
	@pwd -P > "$(STAMP)"

env: $(STAMP)

lint: $(STAMP)
	$(RUN) -m ruff check .
	MYPYPATH=.typing $(RUN) -m mypy -p onnxkiln
	MYPYPATH=scripts:.typing $(RUN) -m mypy --explicit-package-bases --follow-imports=silent scripts/*.py scripts/*/*.py

format: $(STAMP)
	$(RUN) -m ruff check --fix .

test: lint
	$(RUN) -m pytest -q -n 2 --dist loadfile

demo: $(STAMP)
	$(RUN) scripts/demo.py

zoo: $(STAMP)
	$(RUN) scripts/zoo.py check

zoo-extended: $(STAMP)
	$(RUN) scripts/zoo.py --extended check

conformance: $(STAMP)
	$(RUN) scripts/conformance.py --require 1700

# The engines to compare with are large, so only this target installs them.
$(STAMP).bench: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[compile,cuda,dev,bench]'
	@touch "$(STAMP).bench"

gpu-check: $(STAMP)
	$(RUN) scripts/gpu_check.py

bench: $(STAMP).bench
	$(RUN) scripts/bench.py run --threads $(THREADS)

bench-tuned: $(STAMP).bench
	$(RUN) scripts/ship_log.py tune "$(LOG)" --targets cpu
	$(RUN) scripts/bench_tuned.py run "$(LOG)" --compare onnxruntime,openvino --threads $(THREADS)

$(STAMP).accuracy: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[compile,dev,accuracy]'
	@touch "$(STAMP).accuracy"

accuracy: $(STAMP).accuracy
	$(RUN) scripts/accuracy.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
