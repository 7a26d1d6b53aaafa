# make demo: set up and run the main job on real images.   make test: set up and run the tests on all backends.
PYTHON ?= python3
KERAS_BACKEND ?= jax
export KERAS_BACKEND

BIN := .venv/bin
# uv doesn't read pip's configuration; a local folder of wheels is handed over.
LOCAL_WHEELS = $${PIP_FIND_LINKS:-$$($(BIN)/pip config get global.find-links 2>/dev/null)}
INSTALL = UV_FIND_LINKS="$(LOCAL_WHEELS)" $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt
SETTINGS := pyproject.toml constraints.txt

PACKAGE := build/package
INTEROP := build/interop
EXPORTS := onnx onnxruntime onnxscript onnx-ir tf2onnx openvino openvino-telemetry ai-edge-litert backports.strenum \
	jax2onnx flax optax treescope equinox jaxtyping wadler-lindig dm-pix orbax-export chex toolz
BACKENDS := jax tensorflow torch

.PHONY: demo test test-jax test-tensorflow test-torch docs devices faults interop package lint format clean

demo: .venv/ready-$(KERAS_BACKEND)
	$(BIN)/python examples/quickstart.py $(ARGS)

# Every backend in processes of its own; a failure on one doesn't hide the others. The last line of each says what it cost.
test: .venv/ready-test
	@failed=; for backend in jax tensorflow torch; do $(MAKE) --no-print-directory test-$$backend || failed="$$failed $$backend"; done; \
	if [ -n "$$failed" ]; then echo "failed on:$$failed"; exit 1; fi

test-jax test-tensorflow test-torch: test-%: .venv/ready-test
	@echo "== $*"
	KERAS_BACKEND=$* OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

# What README and docs show, run block by block; notebooks, examples of docstrings, the examples; and the site, in
# build/site, where no link may be broken.
docs: .venv/ready-test
	KERAS_UMD_DOCS=1 KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m docs tests $(ARGS)
	KERAS_UMD_DOCS=1 KERAS_BACKEND=jax OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m docs tests/examples $(ARGS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Several devices and processes on this machine, and torch.compile.
devices: .venv/ready-test
	@failed=; for backend in jax tensorflow torch; do \
	KERAS_UMD_DEVICES=1 KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m devices tests $(ARGS) \
	|| failed="$$failed $$backend"; done; if [ -n "$$failed" ]; then echo "failed on:$$failed"; exit 1; fi

# Kills, power cuts, damage and full disks in earnest, of which `make test` tries a sample.
faults: .venv/ready-test
	KERAS_UMD_FAULTS=1 KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -rP tests/faults $(ARGS)

# The networks of transformers, timm and diffusers beside ours, and exported programs in their runtimes.
interop: $(INTEROP)/ready
	@failed=; for backend in $(BACKENDS); do \
	KERAS_UMD_INTEROP=1 KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 $(INTEROP)/bin/python -m pytest -q -n 2 --dist loadfile -m interop tests/interop $(ARGS) \
	|| failed="$$failed $$backend"; done; if [ -n "$$failed" ]; then echo "failed on:$$failed"; exit 1; fi

# An environment of its own on top of the tests', without the torchvision that timm asks for: it needs another PyTorch.
# Nor with the older orbax-checkpoint that jax2onnx asks for: what the exports need is listed by name. In it is another
# one with onnxruntime and NumPy alone, for the example that serves.
$(INTEROP)/ready: .venv/ready-test
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(INTEROP)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(echo $(INTEROP)/lib/python*/site-packages)/tests.pth
	UV_FIND_LINKS="$(LOCAL_WHEELS)" $(BIN)/uv pip install --quiet --python $(INTEROP)/bin/python -c constraints.txt transformers diffusers safetensors
	UV_FIND_LINKS="$(LOCAL_WHEELS)" $(BIN)/uv pip install --quiet --python $(INTEROP)/bin/python -c constraints.txt --no-deps timm $(EXPORTS)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(INTEROP)/serving
	UV_FIND_LINKS="$(LOCAL_WHEELS)" $(BIN)/uv pip install --quiet --python $(INTEROP)/serving/bin/python -c constraints.txt onnxruntime numpy
	@touch $@

# The sdist, the wheel from it, and the wheel in empty environments: one without a backend, and one for each.
package: .venv/bin/uv
	rm -rf $(PACKAGE)
	$(BIN)/uv build --quiet --python $(BIN)/python --out-dir $(PACKAGE)/dist
	@failed=; for backend in none $(BACKENDS); do $(MAKE) --no-print-directory package-$$backend || failed="$$failed $$backend"; done; \
	if [ -n "$$failed" ]; then echo "failed with:$$failed"; exit 1; fi
	@echo "$$(ls $(PACKAGE)/dist) in $(PACKAGE)/dist"

package-%:
	@$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python $(PACKAGE)/$*
	@wheel=$$(ls $(PACKAGE)/dist/*.whl); extra=$(if $(filter none,$*),,'[$*]'); \
	UV_FIND_LINKS="$(LOCAL_WHEELS)" $(BIN)/uv pip install --quiet --python $(PACKAGE)/$*/bin/python -c constraints.txt "$$wheel$$extra"
	$(PACKAGE)/$*/bin/pip check
	@cd $$(mktemp -d) && OMP_NUM_THREADS=1 $(CURDIR)/$(PACKAGE)/$*/bin/python -I $(CURDIR)/tests/package/try_it.py $*

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/ruff format --check .

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv

# Without the torchvision that torch-fidelity asks for; what the tests compare with doesn't need it.
.venv/ready-test: .venv/bin/uv $(SETTINGS)
	$(INSTALL) -e '.[jax,tensorflow,torch,data,latents,distributed,eval,plots,docs,dev]'
	$(INSTALL) --no-deps torch-fidelity
	@touch $@ .venv/ready-jax .venv/ready-tensorflow .venv/ready-torch

.venv/ready-%: .venv/bin/uv $(SETTINGS)
	$(INSTALL) -e '.[$*,eval,plots]' pillow opencv-python-headless
	@touch $@
