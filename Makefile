# make demo and make test do everything on a fresh machine with Python >= 3.10, a C++20 compiler
# and make. The other targets are for development.
PYTHON ?= python3
MINUTES ?= 60
SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install -q -c constraints.txt
BUILT := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)

.PHONY: demo setup test check emit verify results rates pictures sanitize fuzz soak conformance \
  golden bench browser clean

demo: $(VENV)/lab
	$(BIN)/meansquare compare

setup: $(VENV)/dev

test: $(VENV)/dev browser $(VENV)/axe
	$(BIN)/python -m pytest

check: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/python tools/emit.py --check
	$(BIN)/python tools/which_setting.py --check
	$(BIN)/python tools/learning_rates.py --check

emit: $(VENV)/dev
	$(BIN)/python tools/emit.py
	$(MAKE) setup

# The exact cases and two claims about learning, within five minutes on two cores.
verify: $(VENV)/lab
	rm -rf build/claims
	$(BIN)/meansquare claims exact momentum-ravine suits-drift --out build/claims

# Everything in docs/results and the page that is written from it, in three quarters of an hour on two cores.
results: $(VENV)/lab
	$(BIN)/meansquare claims --out runs/claims
	$(BIN)/python tools/which_setting.py --publish runs/claims

# The table of suggested learning rates, from records that are made where they are missing: ten minutes.
rates: $(VENV)/lab
	$(BIN)/python tools/learning_rates.py --run

# The pictures of three pages, from real runs; needs chromium.
pictures: $(VENV)/dev browser
	$(BIN)/python tools/pictures.py

sanitize: $(VENV)/dev
	bash tools/sanitize.sh

fuzz: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS)

soak: $(VENV)/dev
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

conformance: $(VENV)/dev
	$(BIN)/python -m conformance

golden: $(VENV)/dev
	$(BIN)/python -m conformance --write

bench: $(VENV)/dev
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/family.py

$(VENV)/tools: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0 scikit-build-core nanobind cmake ninja
	touch $@

$(VENV)/lab: $(VENV)/tools $(BUILT)
	PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-build-isolation -e '.[lab]'
	touch $@

$(VENV)/dev: $(VENV)/lab
	$(PIP) --no-build-isolation -e '.[lab,dev]'
	touch $@

# The tests of the report need a browser: Debian's chromium, where this may install it.
browser:
	@command -v chromium >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

# The report is checked for accessibility with axe-core, where npm is.
$(VENV)/axe: | $(VENV)/tools
	@mkdir -p $@
	@! command -v npm >/dev/null || { cd $@ && npm pack --silent axe-core@4.14.1 >/dev/null && tar xf axe-core-*.tgz; }

clean:
	rm -rf $(VENV) .conformance build runs
