# Two commands for everybody: `make demo` and `make test`. The rest are their parts.
SHELL := /bin/sh
KOSEKI := .venv/bin/koseki
.DEFAULT_GOAL := help
.PHONY: help set-up demo test lint types unit browser molecule drills images test-images fuzz bench bench-drift bench-soak lock down

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

set-up: ## Install what is missing on this machine and in .venv
	@tools/set-up

demo: set-up ## From nothing to a verified platform in the lab, left running
	@$(KOSEKI) demo

down: ## Take the demo's lab down
	@$(KOSEKI) lab down

test: set-up ## Every test: lint, types, unit, browser, molecule, suites and drills on labs
	@tools/run-tests

# One make for all of it: it hands on what ends it, which a shell between would not.
lint: set-up ## Style of Python, YAML, Ansible and shell
	@tools/run-tests lint

types: set-up ## Types of all Python
	@tools/run-tests types

unit: set-up ## Tests without a host
	@tools/run-tests unit

browser: set-up ## The drift page in a headless Chromium
	@tools/run-tests browser

molecule: set-up ## The provisioning by its scenarios; its lab is taken down again
	@tools/run-tests molecule

drills: set-up ## The provisioning, then suites and destructive drills on its labs
	@tools/run-tests provision drills

images: set-up ## What CI adds to make test: an image twice, booted and tried; then a pair
	@tools/run-tests images pair

test-images: set-up ## Build an image twice, boot it, verify it, cut its power; then a pair of them
	@tools/run-tests images pair_lost

fuzz: set-up ## Give each reader of foreign input ten minutes of inputs (FUZZ_SECONDS)
	@PYTHONPATH=tests:host_programs/koseki_link/lib/koseki-link:host_programs/koseki_release/lib/koseki-release .venv/bin/python -m fuzz

bench: set-up ## Measure the figures and print them as a table
	@.venv/bin/python -m koseki_ops.bench

bench-drift: set-up ## Measure the sweep beside what the engines take to tell
	@.venv/bin/python -m koseki_ops.bench --only drift --only drift-fleet

bench-soak: set-up ## Sweep an untouched platform 200 times under load; nothing may be drift
	@.venv/bin/python -m koseki_ops.bench --only drift-soak

lock: set-up ## Write requirements.lock anew from pyproject.toml, without any index address
	@tools/write-lock
