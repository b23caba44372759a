# Semantic Segmentation, Step by Step: everything one types here.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help book test fast record serve pdf dist lighthouse pictures readme repository clean install \
        style types unit chapters gpu-branches colab pages

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/installed
# Third-party scripts of the pages (mathematics, sliders), fetched once, never committed.
VENDOR := .vendor/fetched

# The first Python of 3.11 or newer; another one: make PYTHON=/path/to/python3
PYTHON = $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

PORT    ?= 8000
CHAPTER ?=
SEED    ?=
NOTEBOOKS = $(wildcard notebooks/*.ipynb)
SITE     := _build/html
TEST_SITE := _build/test/_build/html
FAST_SITE := _build/fast/_build/html

VERSION  := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
EDITION  := dist/semantic-segmentation-$(VERSION)

PIP = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
JUPYTER_BOOK = $(BIN)/jupyter-book build . -W -n --keep-going
# Nothing in a chapter takes five minutes; a cell that hangs is stopped.
NBVAL = $(BIN)/python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout 300 \
    -p no:cacheprovider -p tests.notebooks.seconds

# A comma inside $(call ...) would end the argument.
, := ,

# A line that is easy to find in a long log.
define headline
	@printf '\n\033[1m== %s\033[0m\n' "$(1)"
endef

help:
	@echo "make book                  set up, run every chapter, build $(SITE)"
	@echo "make test                  set up, check everything"
	@echo "make fast CHAPTER=04_fcn   run and show one chapter, a few steps only"
	@echo "make record CHAPTER=04_fcn SEED=1   run a chapter with a seed, keep its numbers in book/results"
	@echo "make serve                 read the built book at http://localhost:$(PORT)"
	@echo "make pdf                   print the book into $(EDITION).pdf"
	@echo "make dist                  pack the book into $(EDITION).zip"
	@echo "make lighthouse            measure the pages in a browser, keep the scores in book/results"
	@echo "make readme                chapters and front page, as the README shows them"
	@echo "make pictures              train what the front page shows, and draw it"
	@echo "make repository URL=https://github.com/OWNER/NAME   where this book lives, in every file"
	@echo "make clean                 remove what was built; .venv stays"

# ---------------------------------------------------------------- set-up

install: $(STAMP)

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	    echo "make: Python 3.11 or newer is needed; this machine has $$(python3 --version 2>/dev/null || echo none)." >&2; exit 1; fi
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(call headline,Installing into $(VENV)$(,) once; torch is large and takes minutes)
	@{ $(PIP) --upgrade pip "setuptools>=77" wheel \
	  && $(PIP) --requirement requirements.txt \
	  && $(PIP) --no-build-isolation --no-deps --editable . ; } >$(VENV)/install.log 2>&1 \
	  || { tail -n 15 $(VENV)/install.log >&2; \
	    echo "make: a package could not be installed; is there a network to the package registry? All of pip's words: $(VENV)/install.log" >&2; exit 1; }
	@$(PIP) --no-build-isolation pydensecrf2==1.1 >>$(VENV)/install.log 2>&1 \
	  || echo "make: without a compiler pydensecrf2 is not built; one test of the CRF is skipped."
	@touch $@

# Never fails: without npm or a network the pages link to the scripts on the web instead.
$(VENDOR): book/extension/vendor.py | $(STAMP)
	@$(BIN)/python book/extension/vendor.py

# ---------------------------------------------------------------- the book

book: $(STAMP) $(VENDOR)
	$(call headline,Running the chapters and building the book)
	@SEGLAB_PROFILE=$${SEGLAB_PROFILE:-cpu} $(JUPYTER_BOOK) || { \
	    echo "make: the book has errors; tracebacks of chapters are in $(SITE)/reports" >&2; exit 1; }
	@SEGLAB_SITE=$(SITE) $(BIN)/python -m pytest -q -p no:cacheprovider tests/book/test_pages.py
	@echo; echo "The book is in $(SITE): open $(SITE)/index.html, or type 'make serve'."

fast: $(STAMP) $(VENDOR)
	@[ -f "notebooks/$(CHAPTER).ipynb" ] || { \
	    echo "make: say which chapter: make fast CHAPTER=NAME, one of: $(basename $(notdir $(NOTEBOOKS)))" >&2; exit 1; }
	@SEGLAB_PROFILE=fast SEGLAB_CHAPTER=$(CHAPTER) $(JUPYTER_BOOK) --path-output _build/fast
	@echo; echo "Open $(FAST_SITE)/notebooks/$(CHAPTER).html; only this chapter has outputs."

# What a chapter claims and notes, for any seed, into book/results.
record: $(STAMP)
	@[ -f "notebooks/$(CHAPTER).ipynb" ] && [ -n "$(SEED)" ] || { \
	    echo "make: say which: make record CHAPTER=04_fcn SEED=1" >&2; exit 1; }
	@SEGLAB_COMMAND="make record CHAPTER=$(CHAPTER) SEED=$(SEED)" SEGLAB_SEED=$(SEED) SEGLAB_PROFILE=cpu \
	    SEGLAB_RECORD=$(CURDIR)/book/results/$(CHAPTER)_seed$(SEED).json \
	    $(BIN)/jupyter execute notebooks/$(CHAPTER).ipynb
	@echo "Written: book/results/$(CHAPTER)_seed$(SEED).json"

serve: $(STAMP)
	@[ -d $(SITE) ] || { echo "make: there is no book yet; type 'make book' first." >&2; exit 1; }
	@echo "The book is at http://localhost:$(PORT) (stop with Ctrl-C)"
	@$(BIN)/python -m http.server $(PORT) --bind localhost --directory $(SITE)

# The book on paper; needs Chromium.
pdf: book
	@$(BIN)/python -m book.tools.pdf $(SITE) $(EDITION).pdf

# The site as one file, with a checksum.
dist: book
	@$(BIN)/python -m book.tools.archive $(SITE) $(EDITION).zip

# Scores of the published pages; needs Chromium, npm, and a machine that does nothing else.
lighthouse: book
	@npm ci --prefix book/tools --ignore-scripts --no-audit --no-fund --silent
	@$(BIN)/python -m book.tools.lighthouse $(SITE) book/tools/node_modules/lighthouse/cli/index.js

# What the front page and the README show: networks are trained for it, the page is photographed.
pictures: $(STAMP)
	@$(BIN)/python -m book.tools.pictures

readme: $(STAMP)
	@$(BIN)/python -m book.tools.readme $(SITE)

# The address of the repository, everywhere it stands.
repository:
	@$(PYTHON) -m book.tools.repository "$(URL)" "$(BRANCH)"

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist *.egg-info
	find seglab tests notebooks book -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------- the checks, in the order they run

STAGES := style types unit chapters gpu-branches colab pages

test: $(STAMP) $(VENDOR)
	@for stage in $(STAGES); do $(MAKE) --no-print-directory $$stage; done
	@echo; echo "Everything passed."

style: $(STAMP)
	$(call headline,Style: ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check seglab tests book

types: $(STAMP)
	$(call headline,Types: mypy)
	@$(BIN)/mypy

unit: $(STAMP)
	$(call headline,Unit tests)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --ignore=tests/book --ignore=tests/colab \
	    --ignore=tests/gpu tests

chapters: $(STAMP)
	$(call headline,Every chapter with its claims$(,) profile cpu)
	@SEGLAB_PROFILE=cpu $(NBVAL) $(NOTEBOOKS)

gpu-branches: $(STAMP)
	$(call headline,The gpu branch of every chapter$(,) two steps)
	@SEGLAB_PROFILE=gpu SEGLAB_STEPS=2 $(NBVAL) $(NOTEBOOKS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/gpu

# Libraries in Colab's versions, which are not the book's: made once, again when the list changes.
COLAB := _build/colab/image
$(COLAB): tests/colab/image.txt tests/colab/image.py | $(STAMP)
	@$(BIN)/python tests/colab/image.py $@

colab: $(STAMP) $(COLAB)
	$(call headline,Every chapter as in Colab$(,) profile fast)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/colab

pages: $(STAMP) $(VENDOR)
	$(call headline,The book from clean$(,) profile fast)
	@rm -rf _build/test
	@SEGLAB_PROFILE=fast $(JUPYTER_BOOK) --path-output _build/test
	$(call headline,The pages$(,) in a browser too)
	@SEGLAB_SITE=$(TEST_SITE) $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/book
