# The project's commands; `make` alone lists them. What a machine needs is in deployments/setup.sh.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

# Words that tie the project to one machine or one package registry. Written so that this line does not match itself.
FOREIGN := (pypi|pythonhosted|registry[.]npmjs|deb[.]debian|security[.]debian|snapshot[.]debian|proxy[.]golang)[.](org|com)|/(home|root|work)/main/|extra-inde[x]-url

.PHONY: help setup demo check test test-parts test-service unit bench up down

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, the Python environment, the sample guest's packages
	@deployments/setup.sh

demo: setup ## bring everything up, import the sample guest twice, boot an ECS from it
	@$(BIN)/ims up
	@$(BIN)/python -m deployments.demo

check: setup ## style, types, import directions, nothing tied to one machine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! git grep --untracked -nIE '$(FOREIGN)' || { echo 'check: the lines above name one machine or registry' >&2; exit 1; }

test: setup ## all tests, with real servers and guests; two halves side by side
	@$(MAKE) --no-print-directory --jobs 2 test-parts test-service

test-parts: # catalog, engine and steps, each by itself; then guests; then a service with its ECSs, captures and hosts
	@failed=; \
	$(BIN)/pytest -m 'not guest' --ignore tests/deployments --ignore tests/flows | sed -u 's/^/parts   | /' || failed=1; \
	$(BIN)/pytest -m guest --ignore tests/deployments --ignore tests/flows | sed -u 's/^/guests  | /' || failed=1; \
	$(BIN)/pytest tests/flows/ecs | sed -u 's/^/ecs     | /' || failed=1; \
	test -z "$$failed"

test-service: # the service as a whole
	@failed=; \
	$(BIN)/pytest tests/deployments | sed -u 's/^/deploy  | /' || failed=1; \
	$(BIN)/pytest tests/flows --ignore tests/flows/ecs | sed -u 's/^/service | /' || failed=1; \
	test -z "$$failed"

unit: setup ## the tests that start no server and no guest
	$(BIN)/pytest -m 'not server and not guest'

bench: setup ## measure against today's pipeline; writes benchmarks/results.json
	$(BIN)/python -m benchmarks.run

up: setup ## start the embedded services
	@$(BIN)/ims up

down: ## stop what `make up` started; data stays
	@$(BIN)/ims down
