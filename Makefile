# Every target makes the environment first, or finds it ready: tools/bootstrap.py.
# Variables are given on the command line:  make demo IMAGE=desk.jpg COMMAND="the red mug"

PYTHON ?= python3
# Folder of the environment.
VENV = .venv
# Where ROS 2 comes from: auto (the sourced installation, else wheels), system or wheels.
ROS = auto
# The picture, folder or video of `make demo`, and the sentence; without them it shows its own.
IMAGE =
COMMAND =
# 1: the demo's commands are spoken; a folder: its WAV files are.
SPEECH =
# For `make bundled` and `make nano`: the data's folder (coco_mini/, more/, cutouts/, people/, objects/), the folder that
# gets rendered pictures beside links to these, how many of them, the recipe of config/train/, the run, and more arguments
# for the training and for what makes a checkpoint of it.
DATA = data
SCENES = 700
RECIPE = $@
ROOT = runs/data
RUN = runs/$@
TRAIN_ARGS =
BUNDLE_ARGS = --statistics 8
# How many processes share the tests: one more than there are cores, since many tests wait for nodes, and four at most
# (each takes up to 3 GiB); 0 is none but pytest's own, which shows what tests print (-s).
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST = python -m pytest
# More arguments for pytest, for example  make test PYTEST_ARGS="-k letterbox"  or  "-m slow".
PYTEST_ARGS =

IN_ENV = . "$(abspath $(VENV))/ros_env.sh" &&

.PHONY: help demo test coverage bundled nano lint format types env clean distclean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       camera and segment node over real DDS: commands in, answers and overlays out'
	@echo '                make demo IMAGE=picture.jpg COMMAND="the red mug" takes your own'
	@echo '                make demo SPEECH=1 speaks the commands, SPEECH=folder with your WAV files'
	@echo 'make test       all tests, those over ROS 2 included; PYTEST_ARGS="..." goes to pytest, WORKERS processes share them'
	@echo 'make coverage   the same, and which lines no test runs'
	@echo 'make lint       ruff: rules and layout'
	@echo 'make format     let ruff lay out the code and repair what it can'
	@echo 'make types      mypy on both packages'
	@echo 'make bundled    train the bundled model, make nano the small one (docs/training.md): DATA, SCENES, RECIPE, ROOT, RUN, TRAIN_ARGS, BUNDLE_ARGS'
	@echo 'make env        only make the environment ($(VENV)), or bring it up to date'
	@echo 'make clean      remove what tests, demo and colcon left behind'
	@echo 'make distclean  remove the environment as well'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) (3.10 to 3.14)  VENV=$(VENV)  ROS=$(ROS) (auto, system, wheels)'

env:
	@$(PYTHON) tools/bootstrap.py --venv "$(VENV)" --ros "$(ROS)"

# By way of the shell's variables, a sentence with quotes in it stays one argument.
demo: export DEMO_IMAGE = $(value IMAGE)
demo: export DEMO_COMMAND = $(value COMMAND)
demo: export DEMO_SPEECH = $(value SPEECH)
demo: env
	@$(IN_ENV) exec python -m jmceln_ros.tools.demo $${DEMO_IMAGE:+--image "$$DEMO_IMAGE"} \
		$${DEMO_COMMAND:+--command "$$DEMO_COMMAND"} \
		$${DEMO_SPEECH:+--speech "$$(test "$$DEMO_SPEECH" = 1 || printf %s "$$DEMO_SPEECH")"}

# Plugins that happen to be installed (a ROS machine has several) have no say in the tests. One thread for each process:
# the tensors are small, and threads that wait for each other on a busy machine turn seconds into minutes. A worker gets
# whole files, whose tests share nodes and build on each other.
test: env
	@$(IN_ENV) JMCELN_REQUIRE_ROS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
		$(PYTEST) -p xdist --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --durations 20 $(PYTEST_ARGS)

# Lines that the tests run, in their child processes too (but for those that are killed).
coverage: export COVERAGE_FOLDER = $(abspath $(VENV))/coverage
coverage: env
	@rm -rf "$(VENV)/coverage" && mkdir -p "$(VENV)/coverage"
	@$(MAKE) --no-print-directory test PYTEST="coverage run -m pytest"; tests=$$?; \
		$(IN_ENV) coverage combine -q && coverage report --skip-covered --show-missing && exit $$tests

bundled nano: env
	@test "$(abspath $(DATA))" != "$(abspath $(ROOT))" || { \
		echo "DATA=$(DATA) is ROOT, where links to DATA go: give ROOT another folder"; exit 2; }
	@mkdir -p "$(ROOT)" && for name in coco_mini more cutouts people objects; do \
		ln -sfn "$(abspath $(DATA))/$$name" "$(ROOT)/$$name"; done
	@$(IN_ENV) python -m pip install -q -r requirements/render.txt -c requirements/lock.txt && \
		python -m jmceln_core.synthesis.render --objects "$(DATA)/objects" --out "$(ROOT)/rendered" --scenes $(SCENES) --seed 7 && \
		python -m jmceln_core.train --config config/train/$(RECIPE).yaml --data.root "$(ROOT)" --output "$(RUN)" $(TRAIN_ARGS) && \
		python -m jmceln_core.training.bundle "$(RUN)" --out config/weights/$@.safetensors $(BUNDLE_ARGS)

lint: env
	@$(IN_ENV) ruff check . && ruff format --check .

format: env
	@$(IN_ENV) ruff check --fix . ; ruff format .

types: env
	@$(IN_ENV) mypy

clean:
	rm -rf build install log dist *.egg-info demo_output .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf "$(VENV)" "$(VENV).old" "$(VENV).lock"
