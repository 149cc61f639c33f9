DEMO_CONFIG = configs/multi_exit/resnet20_multi-exit_15e_digits.py
DEMO_DIR = work_dirs/demo
VENV_PYTHON = .venv/bin/python

# An existing environment is kept unless PYTHON asks for another version.
PYTHON ?= $(if $(wildcard $(VENV_PYTHON)),$(VENV_PYTHON),python3)

# Tests of backbones, hooks, loops and classification.
UPSTREAM_TESTS = tests/test_models tests/test_methods tests/test_configs \
	tests/test_datasets tests/test_engine tests/test_evaluation \
	tests/test_operating_point.py tests/test_visualization

.PHONY: help demo test test-upstream lint clean python

help:
	@echo 'make demo           install, train a small dynamic network, search budgets,'
	@echo '                    test it'
	@echo 'make test           install everything and run the tests (PYTEST_ARGS=...)'
	@echo 'make test-upstream  install the original OpenMMLab packages into .venv-upstream'
	@echo '                    and run the tests of classification there (PYTEST_ARGS=...)'
	@echo 'make lint           check the code with ruff'
	@echo 'make clean          delete what the above made, except compiled wheels in .cache'
	@echo 'Choose a Python with PYTHON=python3.10, python3.11 or (not test-upstream) python3.12.'

python:
	@$(PYTHON) -c '' 2>/dev/null || { \
		echo "PYTHON='$(PYTHON)' does not run; give a Python 3.10, 3.11 or 3.12," \
			"for example: make demo PYTHON=python3.11" >&2; exit 2; }

demo: python
	@$(PYTHON) scripts/environment.py demo
	@echo 'Writing the digits of scikit-learn to data/digits'
	@$(VENV_PYTHON) tools/dataset_converters/digits.py data/digits
	@echo 'Training $(DEMO_CONFIG)'
	@$(VENV_PYTHON) tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR)
	@echo 'Searching thresholds for budgets'
	@$(VENV_PYTHON) tools/analysis_tools/search_thresholds.py $(DEMO_CONFIG) \
		$$(cat $(DEMO_DIR)/last_checkpoint) --work-dir $(DEMO_DIR) \
		--max-macs 16e6 20e6 --min-accuracy 95
	@echo 'Testing the trained model'
	@$(VENV_PYTHON) tools/test.py $(DEMO_CONFIG) $$(cat $(DEMO_DIR)/last_checkpoint) \
		--work-dir $(DEMO_DIR)
	@echo 'Counting the samples that exit, by exit'
	@$(VENV_PYTHON) tools/analysis_tools/exit_statistics.py $(DEMO_CONFIG) \
		$$(cat $(DEMO_DIR)/last_checkpoint) --work-dir $(DEMO_DIR) --points max-macs=16M

test: python
	@$(PYTHON) scripts/environment.py test
	@OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-upstream: VENV_PYTHON = .venv-upstream/bin/python
test-upstream: python
	@$(PYTHON) scripts/environment.py upstream
	@OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile $(UPSTREAM_TESTS) \
		$(PYTEST_ARGS)

lint: python
	@$(PYTHON) scripts/environment.py test
	@$(VENV_PYTHON) -m ruff check .

clean:
	@rm -rf .venv .venv-upstream .pytest_cache .ruff_cache data/digits $(DEMO_DIR)
